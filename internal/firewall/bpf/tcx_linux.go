package bpf

import (
	"errors"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tcx is the list of programs that an interface has from Linux 6.6 on. A program is
// attached without a link, which would have to be pinned to outlive the process.
type tcx struct{}

// tcxSupported reports whether the kernel has tcx. Interface 1 is the loopback of
// every namespace.
func tcxSupported() bool {
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	return err == nil
}

func (tcx) programs(l netlink.Link) ([]place, error) {
	index := l.Attrs().Index
	result, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, err
	}
	var all []place
	for _, program := range result.Programs {
		all = append(all, place{index: index, hook: tcx{}, id: program.ID})
	}
	return all, nil
}

func (tcx) attach(index int, i *instance, old *place) error {
	attach := func(anchor link.Anchor) error {
		return link.RawAttachProgram(link.RawAttachProgramOptions{
			Target: index, Program: i.program, Attach: ebpf.AttachTCXIngress, Anchor: anchor,
		})
	}
	if old != nil {
		if err := attach(link.ReplaceProgram(old.instance.program)); !errors.Is(err, unix.ENOENT) {
			return err
		}
		// Somebody has detached it.
	}
	return attach(link.Head())
}

func (tcx) detach(p place) error {
	err := link.RawDetachProgram(link.RawDetachProgramOptions{
		Target: p.index, Program: p.instance.program, Attach: ebpf.AttachTCXIngress,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // somebody has done so
	}
	return err
}

// isGone reports whether an operation failed because its interface is gone.
func isGone(err error) bool {
	return errors.Is(err, unix.ENODEV) || errors.As(err, new(netlink.LinkNotFoundError))
}
