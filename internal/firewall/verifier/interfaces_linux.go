package verifier

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
)

// verifies reports whether tokens are to be verified at an interface. A port of a bond that is
// not in use may get a copy of what the one in use gets, and the bond drops it: a token in the
// copy would be used up.
func verifies(i bpf.Interface) bool { return i.Name != "lo" && !i.Bonded }

// isUp reports whether packets can arrive at an interface.
func isUp(index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && i.Flags&net.FlagUp != 0
}

// Everywhere loads the program of a machine anew, for all interfaces, if one has none.
// Otherwise it has the one that runs follow the kernel's clock of TAI. Before a new one is
// attached, know is to have the loaded rules know its codes, beside those of the
// program that runs: the keys may have changed since the rules were loaded.
func Everywhere(m *automaton.Machine, c bpf.Carrier, know func([]Code, bpf.Codes) error) error {
	keys := m.Policy.HasKeys()
	if !keys && !m.Parameters.Early {
		return nil
	}
	anew, err := toLoad(m)
	if !keys && NotPermitted(err) {
		return nil // the rules do all the work
	}
	if err != nil {
		return verifying(err)
	}
	if !anew {
		return nil
	}
	v := New(m, c)
	defer v.Close()
	if v.lacks != nil || v.program == nil {
		return v.lacks
	}
	early, err := v.Early()
	if err != nil {
		return err
	}
	if err := know(v.Codes(), early); err != nil {
		return err
	}
	return v.Attach()
}

// toLoad reports whether a program is to be loaded, because an interface has none, or should
// have none, or what runs drops nothing early. What runs is told of other interfaces and
// addresses, and of the clock.
func toLoad(m *automaton.Machine) (bool, error) {
	running, err := bpf.Find()
	if err != nil {
		return false, err
	}
	defer running.Close()
	if slices.ContainsFunc(running.Interfaces(), func(i bpf.Interface) bool { return verifies(i) != i.Attached }) {
		return true, nil
	}
	if err := running.FollowTAI(); err != nil {
		return false, err
	}
	return serveEarly(m, running)
}

// A Lookout remembers which interfaces and addresses there were, how far TAI was ahead of UTC,
// and what ran.
type Lookout struct {
	places []string
	tai    time.Duration
	held   *bpf.Held
}

// Once calls serve if anything is not as when serve succeeded last.
func (l *Lookout) Once(serve func() error) error {
	tai, err := bpf.TAI()
	if err != nil {
		return err
	}
	all, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("cannot list interfaces: %w", err)
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("cannot list addresses: %w", err)
	}
	var places []string
	for _, i := range all {
		a := i.Attrs()
		places = append(places, fmt.Sprint(a.Index, " ", a.Name, " ", a.MasterIndex))
	}
	for _, a := range addresses {
		// An address is tentative at first, and none of this host's.
		places = append(places, fmt.Sprint(a.LinkIndex, " ", a.IPNet, " ", a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED)))
	}
	if slices.Sort(places); slices.Equal(places, l.places) && tai == l.tai {
		return nil
	}
	err = errors.Join(serve(), l.hold())
	if err == nil {
		l.places, l.tai = places, tai
	}
	return err
}

// hold has nothing dropped early by programs that have gone with their interfaces to another
// network namespace, whose rules are not ours.
func (l *Lookout) hold() error {
	running, err := bpf.Find()
	if err != nil {
		if NotPermitted(err) {
			return nil
		}
		return verifying(err)
	}
	defer running.Close()
	if l.held != nil {
		if err := l.held.Leave(running); err != nil {
			return err
		}
	}
	held, err := running.Hold()
	if err != nil {
		return err
	}
	l.Close()
	l.held = held
	return nil
}

// Again has Once serve at its next call whatever there is: another process may have loaded
// something else.
func (l *Lookout) Again() { l.places = nil }

// Close lets go of what ran.
func (l *Lookout) Close() {
	if l.held != nil {
		l.held.Close()
		l.held = nil
	}
}
