package migrate

import (
	"net/netip"
	"slices"

	"postern/internal/policy"
)

// Everything that distinguishes probes.
type mentions struct {
	ports  []policy.Port // in the order of the rules, then strays
	strays int           // where those begin: a TCP and a UDP port that no rule names
	places []place       // those that matter to knocks, the strangers' first
	others []place       // those that may: something before the knocks names them
	all    []place       // every one
}

const (
	maxExpanded = 16   // the ports of a range that are all looked at
	maxPlaces   = 64   // that are looked at for knocks
	maxAll      = 1024 // that facets are put together to
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
	m.places, m.all = relevant.places(maxPlaces), every.places(maxAll)
	m.places = m.places[:min(len(m.places), maxPlaces)]
	for _, at := range m.all[:min(len(m.all), maxPlaces)] {
		if !slices.Contains(m.places, at) {
			m.others = append(m.others, at)
		}
	}
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
	together []place // that one rule asks for
}

func (f *facets) add(r *rule) {
	one := facets{}
	for _, t := range r.tests {
		switch {
		case t.kind == onInterface && t.name != "lo" && t.name != "+" && t.name != "":
			one.ifaces = append(one.ifaces, t.name) // a wildcard too: it is within itself
		case t.kind == onSource && t.network.Bits() > 0 && !t.network.Addr().IsLoopback():
			one.from = append(one.from, t.network)
		case t.kind == onAddress && t.network.Bits() > 0 && !t.network.Addr().IsLoopback():
			one.to = append(one.to, t.network)
		}
	}
	if len(one.ifaces) <= 1 && len(one.from) <= 1 && len(one.to) <= 1 && len(one.ifaces)+len(one.from)+len(one.to) > 1 {
		together := one.places(maxPlaces)
		f.together = append(f.together, together[len(together)-1])
	}
	f.ifaces, f.from, f.to = append(f.ifaces, one.ifaces...), append(f.from, one.from...), append(f.to, one.to...)
}

// places are all that the facets make together; if these are more than most, each
// facet by itself, and those that a rule names together.
func (f *facets) places(most int) []place {
	ifaces, from, to := unique(f.ifaces), unique(f.from), unique(f.to)
	all := []place{{}}
	for _, i := range ifaces {
		all = append(all, place{iface: i})
	}
	for _, s := range from {
		all = append(all, place{from: s})
	}
	for _, d := range to {
		all = append(all, place{to: d})
	}
	if (len(ifaces)+1)*(len(from)+1)*(len(to)+1) > most {
		return append(all, unique(f.together)...)
	}
	for _, i := range append([]string{""}, ifaces...) {
		for _, s := range append([]netip.Prefix{{}}, from...) {
			for _, d := range append([]netip.Prefix{{}}, to...) {
				if p := (place{i, s, d}); p.named() > 1 {
					all = append(all, p)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b place) int { return a.named() - b.named() })
	return all
}

// unique are the values of a list, in the order in which they come first.
func unique[T comparable](list []T) []T {
	var all []T
	seen := map[T]bool{}
	for _, v := range list {
		if !seen[v] {
			seen[v] = true
			all = append(all, v)
		}
	}
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
