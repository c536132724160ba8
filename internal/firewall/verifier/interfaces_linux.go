package verifier

import (
	"net"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
)

// verifies reports whether tokens can arrive at an interface.
func verifies(i bpf.Interface) bool { return i.Name != "lo" }

// isUp reports whether packets can arrive at an interface.
func isUp(index int) bool {
	i, err := net.InterfaceByIndex(index)
	return err == nil && i.Flags&net.FlagUp != 0
}

// Everywhere loads the program of a machine anew, for all interfaces, if one has none.
// Otherwise it has the one that runs follow the kernel's clock of TAI. Before a new one is
// attached, know is to have the loaded rules know its codes, beside those of the
// program that runs: the keys may have changed since the rules were loaded.
func Everywhere(m *automaton.Machine, c bpf.Carrier, know func([]Code) error) error {
	if !m.Policy.HasKeys() {
		return nil
	}
	running, err := bpf.Find()
	if err != nil {
		return verifying(err)
	}
	defer running.Close()
	if !slices.ContainsFunc(running.Interfaces(), func(i bpf.Interface) bool { return verifies(i) && !i.Attached }) {
		return running.FollowTAI()
	}
	v := New(m, c)
	defer v.Close()
	if v.lacks != nil {
		return v.lacks
	}
	if err := know(v.Codes()); err != nil {
		return err
	}
	return v.Attach()
}

// A Lookout remembers which interfaces there were, and how far TAI was ahead of UTC.
type Lookout struct {
	indexes []int
	tai     time.Duration
}

// Once calls serve if either is not as when serve succeeded last.
func (l *Lookout) Once(serve func() error) error {
	tai, err := bpf.TAI()
	if err != nil {
		return err
	}
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	indexes := make([]int, len(all))
	for i := range all {
		indexes[i] = all[i].Index
	}
	if slices.Sort(indexes); slices.Equal(indexes, l.indexes) && tai == l.tai {
		return nil
	}
	err = serve()
	if err == nil {
		l.indexes, l.tai = indexes, tai
	}
	return err
}
