package migrate

import (
	"net/netip"
	"slices"
)

// A walker sends probes through a rule set.
type walker struct {
	set       *ruleset
	numbers   map[string]int              // of tags
	sources   []netip.Prefix              // all that the rules name, for a stranger's address to be none of them
	addresses map[netip.Prefix]netip.Addr // of them, found so far
	work      int                         // rules and tests that may still be looked at
	trail     *[]step                     // if it is to be kept, with the number of the packet
	packet    int
}

// maxWork is some seconds' worth. The tests want it sooner.
var maxWork = 30_000_000

const maxTags = len(tags{}) * 64

// hooks are the chains that a packet to this host meets, and then those of one
// that is sent on.
var (
	arriving = []chainName{{"raw", "PREROUTING"}, {"mangle", "PREROUTING"}, {"nat", "PREROUTING"}}
	staying  = []chainName{{"mangle", "INPUT"}, {"filter", "INPUT"}, {"security", "INPUT"}}
	leaving  = []chainName{{"mangle", "FORWARD"}, {"filter", "FORWARD"}, {"security", "FORWARD"}}
)

// newWalker gets a rule set ready to be walked. It is nil for one that a packet
// meets nothing in.
func newWalker(set *ruleset) (*walker, error) {
	w := &walker{set: set, numbers: map[string]int{}, addresses: map[netip.Prefix]netip.Addr{}, work: maxWork}
	rules := 0
	for _, c := range set.order {
		for _, r := range c.rules {
			rules++
			r.marked = silent(c, r)
			for i := range r.tests {
				t := &r.tests[i]
				switch {
				case t.kind == onRecent && t.recent.verb == "":
					*t = test{kind: onUnknown, why: "the match \"recent\" is not told what to do"}
				case t.kind == onRecent && t.recent.rdest:
					*t = test{kind: onUnknown, why: "a policy remembers who knocks, not whom they knock at"}
				case t.kind == onRecent:
					if _, known := w.numbers[t.recent.name]; !known {
						w.numbers[t.recent.name] = len(w.numbers)
					}
				case t.kind == onSource:
					w.sources = append(w.sources, t.network)
				}
			}
		}
	}
	if len(w.numbers) > maxTags || w.loops() {
		return nil, errTooLarge
	}
	if rules == 0 {
		return nil, nil
	}
	slices.SortFunc(w.sources, comparePrefix)
	w.sources = slices.Compact(w.sources)
	return w, nil
}

// loops tells whether a chain leads back to itself, which the kernel refuses.
func (w *walker) loops() bool {
	const entered, left = 1, 2
	at := map[*chain]int{}
	var visit func(c *chain) bool
	visit = func(c *chain) bool {
		if at[c] != 0 {
			return at[c] == entered
		}
		at[c] = entered
		for _, r := range c.rules {
			if next := w.set.chains[chainName{c.table, r.target}]; next != nil && visit(next) {
				return true
			}
		}
		at[c] = left
		return false
	}
	return slices.ContainsFunc(w.set.order, visit)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// reached are the chains that packets to this host, or forwarded ones, can meet.
func (w *walker) reached() map[*chain]bool {
	seen := map[*chain]bool{}
	var visit func(c *chain)
	visit = func(c *chain) {
		if c == nil || seen[c] {
			return
		}
		seen[c] = true
		for _, r := range c.rules {
			visit(w.set.chains[chainName{c.table, r.target}])
		}
	}
	for _, hook := range slices.Concat(arriving, staying) {
		visit(w.set.chains[hook])
	}
	if w.sendsOn() {
		for _, hook := range leaving {
			visit(w.set.chains[hook])
		}
	}
	return seen
}

// sendsOn tells whether some rule sends packets on to other hosts.
func (w *walker) sendsOn() bool {
	c := w.set.chains[chainName{"nat", "PREROUTING"}]
	return c != nil && len(c.rules) > 0
}

// knocking are the chains from which a rule with tags can be met.
func (w *walker) knocking() map[*chain]bool {
	all := map[*chain]bool{}
	for again := true; again; {
		again = false
		for _, c := range w.set.order {
			if all[c] {
				continue
			}
			for _, r := range c.rules {
				if hasTags(r) || all[w.set.chains[chainName{c.table, r.target}]] {
					all[c], again = true, true
					break
				}
			}
		}
	}
	return all
}

// tagged are the chains that a rule with tags leads to.
func (w *walker) tagged() map[*chain]bool {
	all := map[*chain]bool{}
	var visit func(c *chain)
	visit = func(c *chain) {
		if c == nil || all[c] {
			return
		}
		all[c] = true
		for _, r := range c.rules {
			visit(w.set.chains[chainName{c.table, r.target}])
		}
	}
	for _, c := range w.set.order {
		for _, r := range c.rules {
			if hasTags(r) {
				visit(w.set.chains[chainName{c.table, r.target}])
			}
		}
	}
	return all
}

func hasTags(r *rule) bool {
	return slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onRecent })
}
