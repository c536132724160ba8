package verifier

import (
	"net"
	"slices"

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

// Everywhere loads the program of a machine anew, for all interfaces, if one has none. Before
// it is attached, know is to have the loaded rules know its codes, beside those of the
// program that runs: the keys may have changed since the rules were loaded.
func Everywhere(m *automaton.Machine, c bpf.Carrier, know func([]Code) error) error {
	if !m.Policy.HasKeys() {
		return nil
	}
	running, err := bpf.Find()
	if err != nil {
		return verifying(err)
	}
	bare := slices.ContainsFunc(running.Interfaces(), func(i bpf.Interface) bool { return verifies(i) && !i.Attached })
	running.Close()
	if !bare {
		return nil
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

// A Lookout remembers which interfaces there were.
type Lookout struct{ indexes []int }

// Once calls serve if there are other interfaces than when serve succeeded last.
func (l *Lookout) Once(serve func() error) error {
	all, err := net.Interfaces()
	if err != nil {
		return err
	}
	indexes := make([]int, len(all))
	for i := range all {
		indexes[i] = all[i].Index
	}
	if slices.Sort(indexes); slices.Equal(indexes, l.indexes) {
		return nil
	}
	err = serve()
	if err == nil {
		l.indexes = indexes
	}
	return err
}
