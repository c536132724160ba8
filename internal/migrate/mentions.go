package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
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

// Everything that distinguishes probes.
type mentions struct {
	ports  []policy.Port // in the order of the rules, then strays
	strays int           // where those begin: a TCP and a UDP port that no rule names
	places []place       // those that matter to knocks, the strangers' first
	all    []place       // every one
}

const (
	maxExpanded = 16 // the ports of a range that are all looked at
	maxPlaces   = 64
)

func (w *walker) mentions() mentions {
	var m mentions
	seen := map[policy.Port]bool{}
	var named []policy.Service
	add := func(p policy.Port) {
		if !seen[p] && (p.Number > 0 || p.Protocol == policy.ICMP) {
			seen[p] = true
			m.ports = append(m.ports, p)
		}
	}
	reached, knocking, tagged := w.reached(), w.knocking(), w.tagged()
	var relevant, every facets
	// The order of the listing is that of the chains' declaration; ports are
	// asked after in the order of the lines.
	rules := w.ordered(reached)
	for _, cr := range rules {
		c, r := cr.chain, cr.rule
		protocols := []policy.Protocol{policy.TCP, policy.UDP}
		for _, t := range r.tests {
			if t.kind == onProtocol && !t.not && t.protocol != 0 {
				protocols = []policy.Protocol{policy.Protocol(t.protocol)}
			}
		}
		every.add(r)
		if hasTags(r) || knocking[w.set.chains[chainName{c.table, r.target}]] || tagged[c] || r.target == "DNAT" {
			relevant.add(r)
		}
		for _, t := range r.tests {
			if t.kind != onPort {
				continue
			}
			for _, s := range t.ports {
				named = append(named, s)
				for _, protocol := range protocols {
					if protocol != policy.TCP && protocol != policy.UDP {
						continue
					}
					if int(s.Last)-int(s.First) < maxExpanded {
						for n := int(s.First); n <= int(s.Last); n++ {
							add(policy.Port{Protocol: protocol, Number: uint16(n)})
						}
						continue
					}
					add(policy.Port{Protocol: protocol, Number: max(s.First, 1)})
					add(policy.Port{Protocol: protocol, Number: s.Last})
				}
			}
		}
	}
	add(policy.Port{Protocol: policy.ICMP})
	m.strays = len(m.ports)
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		m.ports = append(m.ports, policy.Port{Protocol: protocol, Number: stray(named, seen, protocol)})
	}
	m.places, m.all = relevant.places(), every.places()
	m.places = m.places[:min(len(m.places), maxPlaces)]
	return m
}

// stray finds a port that no rule names, or at least none by itself.
func stray(named []policy.Service, seen map[policy.Port]bool, protocol policy.Protocol) uint16 {
	fallback := uint16(0)
	for n := uint16(47913); n > 1024; n-- {
		if seen[policy.Port{Protocol: protocol, Number: n}] {
			continue
		}
		if !holdsPort(named, n) {
			return n
		}
		if fallback == 0 {
			fallback = n
		}
	}
	return max(fallback, 1)
}

// facets are what rules ask of where a packet comes from and goes to.
type facets struct {
	ifaces   []string
	from, to []netip.Prefix
}

func (f *facets) add(r *rule) {
	for _, t := range r.tests {
		switch name := strings.TrimSuffix(t.name, "+"); {
		case t.kind == onInterface && name != "lo" && name != "" && !slices.Contains(f.ifaces, name):
			f.ifaces = append(f.ifaces, name)
		case t.kind == onSource && t.network.Bits() > 0 && !t.network.Addr().IsLoopback() && !slices.Contains(f.from, t.network):
			f.from = append(f.from, t.network)
		case t.kind == onAddress && t.network.Bits() > 0 && !t.network.Addr().IsLoopback() && !slices.Contains(f.to, t.network):
			f.to = append(f.to, t.network)
		}
	}
}

// places are all that the facets make together; if these are too many, each
// facet by itself.
func (f *facets) places() []place {
	all := []place{{}}
	for _, i := range f.ifaces {
		all = append(all, place{iface: i})
	}
	for _, s := range f.from {
		all = append(all, place{from: s})
	}
	for _, d := range f.to {
		all = append(all, place{to: d})
	}
	if (len(f.ifaces)+1)*(len(f.from)+1)*(len(f.to)+1) > maxPlaces {
		return all
	}
	ifaces, from, to := append([]string{""}, f.ifaces...), append([]netip.Prefix{{}}, f.from...), append([]netip.Prefix{{}}, f.to...)
	for _, i := range ifaces {
		for _, s := range from {
			for _, d := range to {
				if p := (place{i, s, d}); p.named() > 1 {
					all = append(all, p)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return a.named() - b.named() })
	return all
}

func (a place) named() int {
	n := 0
	for _, is := range []bool{a.iface != "", a.from.IsValid(), a.to.IsValid()} {
		if is {
			n++
		}
	}
	return n
}

type placedRule struct {
	chain *chain
	rule  *rule
}

// ordered gives the rules of chains in the order of their lines.
func (w *walker) ordered(chains map[*chain]bool) []placedRule {
	var all []placedRule
	for _, c := range w.set.order {
		if chains[c] {
			for _, r := range c.rules {
				all = append(all, placedRule{c, r})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b placedRule) int { return a.rule.line - b.rule.line })
	return all
}
