package migrate

import (
	"net/netip"
	"slices"
	"strings"

	"postern/internal/policy"
)

// A place is where a probe comes from and goes to. Empty, it is one that no rule
// names: that of most senders.
type place struct {
	iface    string
	from, to netip.Prefix
}

// within reports whether b is the same place, or one that names less.
func (a place) within(b place) bool {
	return (b.iface == "" || a.iface == b.iface) && (!b.from.IsValid() || a.from == b.from) && (!b.to.IsValid() || a.to == b.to)
}

// named is how many things a place names.
func (a place) named() int {
	n := 0
	for _, is := range []bool{a.iface != "", a.from.IsValid(), a.to.IsValid()} {
		if is {
			n++
		}
	}
	return n
}

// String is how a remark says where packets come from, as in "from 10.0.0.1".
func (a place) String() string {
	var all []string
	if a.from.IsValid() {
		all = append(all, "from "+policy.FormatNetwork(a.from))
	}
	if a.iface != "" {
		all = append(all, "in at "+short(a.iface))
	}
	if a.to.IsValid() {
		all = append(all, "to the address "+policy.FormatNetwork(a.to))
	}
	if all == nil {
		return "from elsewhere"
	}
	return strings.Join(all, " ")
}

// A scope is everything that tells probes apart.
type scope struct {
	ports  []policy.Port // in the order of the rules; then unnamed
	others int           // where those begin: a TCP and a UDP port that no rule names
	places []place       // those that matter to knocks, those that name least first
	rest   []place       // those that may: something before the knocks names them
	all    []place       // every one
}

const (
	maxExpanded = 16   // the ports of a range that are all looked at
	maxPlaces   = 64   // that are looked at for knocks
	maxAll      = 1024 // that facets are put together to
)

// portName is a port of the scope in a remark.
func (s *scope) portName(i int) string {
	if i >= s.others {
		return "all of " + s.ports[i].Protocol.String()
	}
	return s.ports[i].String()
}

func (w *walker) scope() scope {
	var s scope
	seen := map[policy.Port]bool{}
	var named []policy.Service
	add := func(p policy.Port) {
		if !seen[p] && (p.Number > 0 || p.Protocol == policy.ICMP) {
			seen[p] = true
			s.ports = append(s.ports, p)
		}
	}
	knocking, listed := w.knocking()
	var relevant, every facets
	var rules []*rule
	in := map[*rule]*chain{}
	reached := w.reached()
	for _, c := range w.set.order {
		for _, r := range c.rules {
			if reached[c] {
				rules, in[r] = append(rules, r), c
			}
		}
	}
	// Chains are in the order of their declaration; ports are to be in that of the lines.
	slices.SortStableFunc(rules, func(a, b *rule) int { return a.line - b.line })
	for _, r := range rules {
		protocols := []policy.Protocol{policy.TCP, policy.UDP}
		for _, t := range r.tests {
			if t.kind == onProtocol && !t.not && t.protocol != 0 {
				protocols = []policy.Protocol{policy.Protocol(t.protocol)}
			}
		}
		every.add(r)
		if c := in[r]; r.usesLists() || knocking[w.set.target(c, r)] || listed[c] || r.target == "DNAT" {
			relevant.add(r)
		}
		for _, t := range r.tests {
			if t.kind != onPort {
				continue
			}
			named = append(named, t.ports...)
			for _, p := range t.ports {
				for _, protocol := range protocols {
					if protocol != policy.TCP && protocol != policy.UDP {
						continue
					}
					if int(p.Last)-int(p.First) >= maxExpanded {
						add(policy.Port{Protocol: protocol, Number: max(p.First, 1)})
						add(policy.Port{Protocol: protocol, Number: p.Last})
						continue
					}
					for n := int(p.First); n <= int(p.Last); n++ {
						add(policy.Port{Protocol: protocol, Number: uint16(n)})
					}
				}
			}
		}
	}
	add(policy.Port{Protocol: policy.ICMP})
	s.others = len(s.ports)
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		s.ports = append(s.ports, policy.Port{Protocol: protocol, Number: unnamed(named, seen, protocol)})
	}
	s.places, s.all = relevant.places(maxPlaces), every.places(maxAll)
	s.places = s.places[:min(len(s.places), maxPlaces)]
	for _, at := range s.all[:min(len(s.all), maxPlaces)] {
		if !slices.Contains(s.places, at) {
			s.rest = append(s.rest, at)
		}
	}
	return s
}

// knocking returns the chains from which a rule that uses lists can be met, and
// those that such a rule leads to.
func (w *walker) knocking() (from, to map[*chain]bool) {
	from = map[*chain]bool{}
	var led []*chain
	for _, c := range w.set.order {
		for _, r := range c.rules {
			if r.usesLists() {
				led = append(led, w.set.target(c, r))
			}
		}
		from[c] = false
		for met := range w.leadTo(c) {
			from[c] = from[c] || slices.ContainsFunc(met.rules, (*rule).usesLists)
		}
	}
	return from, w.leadTo(led...)
}

// unnamed finds a port that no rule names, or at least none by itself.
func unnamed(named []policy.Service, seen map[policy.Port]bool, protocol policy.Protocol) uint16 {
	fallback := uint16(1)
	for n := uint16(47913); n > 1024; n-- {
		if seen[policy.Port{Protocol: protocol, Number: n}] {
			continue
		}
		if !holdsPort(named, n) {
			return n
		}
		fallback = max(fallback, n)
	}
	return fallback
}

// facets are what rules ask of where a packet comes from and goes to.
type facets struct {
	ifaces   []string
	from, to []netip.Prefix
	together []place // that one rule asks for
}

func (f *facets) add(r *rule) {
	var p place
	n := 0
	for _, t := range r.tests {
		switch {
		case t.kind == onInterface && t.name != "lo" && t.name != "+" && t.name != "":
			p.iface = t.name // a wildcard too: it is within itself
			f.ifaces = append(f.ifaces, t.name)
		case t.kind == onSource && t.network.Bits() > 0 && !t.network.Addr().IsLoopback():
			p.from = t.network
			f.from = append(f.from, t.network)
		case t.kind == onAddress && t.network.Bits() > 0 && !t.network.Addr().IsLoopback():
			p.to = t.network
			f.to = append(f.to, t.network)
		default:
			n--
		}
		n++
	}
	if n > 1 && p.named() == n {
		f.together = append(f.together, p)
	}
}

// places are all that the facets make together; if these are more than most, each
// facet by itself, and those that a rule names together.
func (f *facets) places(most int) []place {
	ifaces, from, to := unique(append([]string{""}, f.ifaces...)), unique(append([]netip.Prefix{{}}, f.from...)), unique(append([]netip.Prefix{{}}, f.to...))
	var all []place
	for _, i := range ifaces {
		all = append(all, place{iface: i})
	}
	for _, s := range from[1:] {
		all = append(all, place{from: s})
	}
	for _, d := range to[1:] {
		all = append(all, place{to: d})
	}
	if len(ifaces)*len(from)*len(to) > most {
		return append(all, unique(f.together)...)
	}
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

// sender returns an address of a network that is in no smaller one that the
// rules name; without a network, one that they name in none.
func (w *walker) sender(from netip.Prefix) netip.Addr {
	if a, known := w.addresses[from]; known {
		return a
	}
	outside := func(a netip.Addr) bool {
		return !slices.ContainsFunc(w.sources, func(p netip.Prefix) bool {
			return p.Contains(a) && (!from.IsValid() || p.Bits() > from.Bits())
		})
	}
	a := from.Addr()
	for i := 0; from.IsValid() && i < len(w.sources)+2 && !outside(a) && from.Contains(a.Next()); i++ {
		a = a.Next()
	}
	if !from.IsValid() {
		anywhere := anywhere4
		if w.set.v6 {
			anywhere = anywhere6
		}
		a = anywhere[max(0, slices.IndexFunc(anywhere, outside))]
	}
	w.addresses[from] = a
	return a
}

// Senders that the rules of few hosts name, in ever other networks.
var (
	anywhere4 = addresses("198.18.7.9", "203.0.113.77", "100.65.3.1", "9.1.2.3", "45.67.89.10", "172.217.1.2", "81.2.3.4")
	anywhere6 = addresses("2001:db8:77::9", "2a01:4f8::77", "2600::1234", "2400:cb00::9", "2c0f:f248::9")
)

func addresses(all ...string) []netip.Addr {
	list := make([]netip.Addr, len(all))
	for i, text := range all {
		list[i] = netip.MustParseAddr(text)
	}
	return list
}
