package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
)

// clsact is the queueing discipline that runs programs as filters, for kernels
// without tcx. An interface has one at most, so others' filters may be in it, or it
// may be others' with our filter in it.
type clsact struct{}

const (
	filterName   = programName
	withQdisc    = filterName + ", and the clsact" // the name says who made the qdisc
	filterHandle = 0x506f7374
)

func qdisc(index int) *netlink.Clsact {
	return &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
}

func (clsact) programs(l netlink.Link) ([]place, error) {
	filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return nil, err
	}
	var all []place
	for _, f := range filters { // by priority, as the kernel runs them
		at := place{index: l.Attrs().Index, hook: clsact{}}
		if f, ok := f.(*netlink.BpfFilter); ok {
			at.id, at.filter = ebpf.ProgramID(f.Id), f
		}
		all = append(all, at)
	}
	return all, nil
}

// attempts is how often a filter is added where others change the clsact meanwhile.
const attempts = 5

// meanwhile is set by tests, and does what others do between a look and what follows from it.
var meanwhile = func(index int) {}

func (c clsact) attach(index int, i *instance, old *place) (err error) {
	f := &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: index, Parent: netlink.HANDLE_MIN_INGRESS, Handle: filterHandle, Protocol: unix.ETH_P_ALL,
		},
		Fd: i.program.FD(), Name: filterName, DirectAction: true,
	}
	if old != nil {
		there := *f
		there.FilterAttrs, there.Name = old.filter.FilterAttrs, old.filter.Name
		meanwhile(index)
		if err := netlink.FilterReplace(&there); !errors.Is(err, errChanged) {
			return unsupported(err)
		}
	}
	for range attempts {
		if err = c.add(f); !errors.Is(err, errChanged) {
			break
		}
	}
	return err
}

// errChanged is the kernel's error where there is no clsact, or where a filter of another kind
// has the priority: others have changed that since we looked.
const errChanged = unix.EINVAL

// add adds a filter, and a clsact if there is none.
func (clsact) add(f *netlink.BpfFilter) error {
	link, err := netlink.LinkByIndex(f.LinkIndex)
	if err != nil {
		return err
	}
	f.Name = filterName
	err = netlink.QdiscAdd(qdisc(f.LinkIndex))
	if made := err == nil; made {
		f.Name = withQdisc
	} else if !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add a clsact to %s: %w", link.Attrs().Name, unsupported(err))
	}
	others, err := netlink.FilterList(link, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return err
	}
	f.Priority = freePriority(others)
	meanwhile(f.LinkIndex)
	return unsupported(netlink.FilterAdd(f))
}

// unsupported returns the error that says what the kernel lacks, if it knows no clsact
// or no filter that is a program.
func unsupported(err error) error {
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return &firewall.UnsupportedError{What: "way to attach BPF programs to interfaces in its kernel", Err: err,
		Hint: "keys require Linux 6.6, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF"}
}

// freePriority returns the lowest priority that a filter may have, which runs first.
// Filters of one priority are of one kind and protocol; of BPF programs the newest
// runs first.
func freePriority(others []netlink.Filter) uint16 {
	for priority := uint16(1); ; priority++ {
		if !slices.ContainsFunc(others, func(other netlink.Filter) bool {
			a := other.Attrs()
			return a.Priority == priority && (other.Type() != "bpf" || a.Protocol != unix.ETH_P_ALL)
		}) {
			return priority
		}
	}
}

func (clsact) detach(p place) error {
	if err := netlink.FilterDel(p.filter); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, errChanged) {
		return err
	}
	if !strings.HasPrefix(p.filter.Name, withQdisc) {
		return nil
	}
	link, err := netlink.LinkByIndex(p.index)
	if err != nil {
		return err
	}
	for _, parent := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		if others, err := netlink.FilterList(link, parent); err != nil || len(others) > 0 {
			return err
		}
	}
	if err := netlink.QdiscDel(qdisc(p.index)); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cannot remove the clsact of %s: %w", link.Attrs().Name, err)
	}
	return nil
}
