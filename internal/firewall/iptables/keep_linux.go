package iptables

import (
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/verifier"
)

// A keeper is the backend for a process that keeps its rules loaded. It cannot hold
// them: the tables are shared with others.
type keeper struct {
	Backend
	variant string
	sizes   string // of the legacy variant's tables, when they were looked at

	interfaces verifier.Lookout // where tokens are verified
}

var _ firewall.Keeper = &keeper{}

// Keep returns a keeper for the variant that the machine uses now.
func (b Backend) Keep() (firewall.Keeper, error) {
	v, err := b.Version()
	return &keeper{Backend: b, variant: v.Variant}, err
}

// Notified reports whether the kernel gives notice: of the nft variant's rules alone.
func (k *keeper) Notified() bool { return k.variant == "nft" }

// Apply has Changed report true next: rules that were flushed again before that would
// have the sizes from before Apply. Where it failed, the caller tries again.
func (k *keeper) Apply(m *automaton.Machine) error {
	err := k.Backend.Apply(m)
	if err == nil {
		k.sizes = ""
	}
	return err
}

// Changed reports whether tables of the legacy variant have other sizes than when it
// was called last.
func (k *keeper) Changed() bool {
	before := k.sizes
	k.sizes = legacySizes()
	return k.sizes != before
}

// Restore loads what is not there. What others do to their own rules and to ours
// looks the same in notices. Who has removed ours may have taken the program, too, and from
// some interfaces only.
func (k *keeper) Restore(m *automaton.Machine) (bool, error) {
	b := k.Backend
	b.tested = true // each program that is started takes milliseconds
	changed, err := b.restore(m)
	if changed {
		k.interfaces.Again()
	}
	if changed && err == nil {
		k.sizes = "" // as in Apply
	}
	return changed, err
}

// restore loads what is not there. What verifies tokens is there, as it is no part of the
// rules, and says which codes they must know.
func (b Backend) restore(m *automaton.Machine) (changed bool, err error) {
	if !m.Policy.HasKeys() {
		return b.apply(m)
	}
	codes, ok, err := verifier.RunningCodes(m, bpf.Mark)
	if err != nil {
		return false, err
	}
	if !ok {
		return b.apply(m) // which says what is wrong, or loads the program, too
	}
	r := Compile(m)
	r.setCodes(codes)
	return b.applyRules(r, func() error { return nil })
}

// Concerns reports whether a notice is about a table of ours as a whole, about a chain of
// ours or about one from which ours are called.
func (k *keeper) Concerns(n firewall.Notice) bool {
	if n.Set != "" || !slices.Contains(kernelTables, n.Table) {
		return false
	}
	return n.Chain == "" || Ours(n.Chain) || slices.Contains(callers, n.Chain)
}

// kernelTables are the tables of places, as notices name them.
var kernelTables = []string{"ip filter", "ip6 filter", "ip nat", "ip6 nat", "ip raw", "ip6 raw"}

// callers are the chains that have a jump to ours.
var callers = []string{"INPUT", "PREROUTING"}

func (*keeper) Hold() (bool, error) { return false, nil }
func (*keeper) LetGo() error        { return nil }
func (*keeper) Close() error        { return nil }
