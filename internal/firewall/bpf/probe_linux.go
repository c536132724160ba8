package bpf

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
)

// Probe reports whether this process can load the program, by doing so. The error is
// a *firewall.UnsupportedError that names what is missing.
func Probe() error {
	p, err := Load(Config{}, nil, nil)
	if err != nil {
		return err
	}
	p.Close()
	return nil
}

// CountsUDP reports whether the kernel lets the program count datagrams.
func CountsUDP() (bool, error) {
	spec, err := readSpec(object)
	if err != nil {
		return false, err
	}
	if _, err := prepareEarly(spec, nil, nil, nil); err != nil {
		return false, err
	}
	c, counts, err := newCollection(spec, ebpf.CollectionOptions{}, true)
	if err != nil {
		return false, explain(err)
	}
	c.Close()
	return counts, nil
}

// explain returns the *firewall.UnsupportedError that names why the kernel refuses,
// or the error itself.
func explain(err error) error {
	if err == nil || errors.As(err, new(*firewall.UnsupportedError)) {
		return err
	}
	missing := func(what, hint string) error {
		return &firewall.UnsupportedError{What: what, Hint: hint, Err: err}
	}
	lacks := func(err error) bool { return errors.Is(err, ebpf.ErrNotSupported) }
	switch {
	case binary.NativeEndian.Uint16([]byte{1, 0}) != 1:
		return missing("little-endian processor", "keys work on those only; use sequences")
	case errors.Is(err, unix.ENOSYS), lacks(features.HaveProgramType(ebpf.SchedCLS)):
		return missing("BPF programs in its kernel", "keys require one with CONFIG_BPF_SYSCALL")
	// The newest of what the program needs.
	case lacks(features.HaveProgramHelper(ebpf.SchedCLS, asm.FnKtimeGetTaiNs)):
		return missing("clock for BPF programs that follows the time of day", "keys require Linux 6.1 or newer")
	// After the others: before Linux 5.11 a limit of locked memory gives the same.
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, new(*ebpf.VerifierError)):
		return notPermitted(capabilities(), err)
	// Some of what the program does is for those alone who have CAP_PERFMON.
	case errors.As(err, new(*ebpf.VerifierError)) && len(lacking(capabilities())) > 0:
		return notPermitted(capabilities(), err)
	case errors.As(err, new(*ebpf.VerifierError)):
		return missing("kernel that accepts the program of keys", "please report the kernel's version, and this: "+err.Error())
	}
	return err
}

// capabilities returns the effective capabilities of this process; all, if they cannot be read.
func capabilities() uint64 {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return ^uint64(0)
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32
}

// lacking returns the names of the capabilities that loading the program takes, and that
// are not among those.
func lacking(have uint64) (names []string) {
	if have&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return nil
	}
	for _, c := range []struct {
		bit  int
		name string
	}{{unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_PERFMON, "CAP_PERFMON"}, {unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}} {
		if have&(1<<c.bit) == 0 {
			names = append(names, c.name)
		}
	}
	return names
}

// notPermitted returns the error of a process with those capabilities that may not load
// the program.
func notPermitted(have uint64, err error) error {
	e := &firewall.UnsupportedError{What: "permission to load BPF programs", Err: err,
		Hint: "containers and user namespaces have none; run Postern on the host itself, or use sequences"}
	if names := lacking(have); names != nil {
		e.What += " (" + strings.Join(names, ", ") + ")"
		e.Hint = "give it what is missing, outside of user namespaces, or use sequences"
	}
	return e
}
