package migrate

import (
	"net/netip"
	"slices"

	"postern/internal/policy"
)

// allow finds the rules that accept without a knock, and makes entries of them.
func (ld *loader) allow(s *side) []allowed {
	a := &allower{loader: ld, side: s, visits: 100_000}
	for _, hook := range staying {
		if c := s.set.chains[hook]; c != nil {
			a.visit(c, nil)
		}
	}
	return a.all
}

type allower struct {
	*loader
	*side
	all    []allowed
	visits int
}

// visit follows a chain with the tests that led into it.
func (a *allower) visit(c *chain, led []test) {
	for _, r := range c.rules {
		if a.visits--; a.visits < 0 {
			return
		}
		if r.marked || !heldByStrangers(r) {
			continue
		}
		tests := slices.Concat(led, r.tests)
		if next := a.set.chains[chainName{c.table, r.target}]; next != nil && !next.builtin() && !hasTags(r) {
			a.visit(next, tests)
		}
		if r.target == "ACCEPT" && c.table == "filter" {
			a.rule(r, tests)
		}
	}
}

// heldByStrangers tells whether a source with no tags can pass.
func heldByStrangers(r *rule) bool {
	return !slices.ContainsFunc(r.tests, func(t test) bool {
		return t.kind == onUnknown || t.kind == onFlood || t.kind == onRecent && t.recent.verb != "set" && !t.not
	})
}

// rule makes entries of a rule that accepts.
func (a *allower) rule(r *rule, tests []test) {
	if ordinary(tests) {
		return
	}
	services := []policy.Service{{}}
	entry := allowed{line: r.line}
	protocol := 0
	refuse := func(why string) {
		if !r.marked {
			r.marked = true
			a.left.add(r.line, "%s", why)
		}
	}
	for i := range tests {
		t := &tests[i]
		switch {
		case t.kind == onState && !t.not, t.kind == onRate, t.kind == onRecent, t.kind == onType && !t.not, t.kind == onSourceType && !t.not, t.kind == onFlags:
		case t.not:
			refuse("an entry of allow says who and what, not who and what else")
			return
		case t.kind == onProtocol:
			protocol = t.protocol
		case t.kind == onPort:
			services = t.ports
		case t.kind == onICMP && !isEcho(t.words[0]), t.kind == onSocket: // who listens is what the posture is about
			return
		case t.kind == onICMP:
			protocol = int(policy.ICMP)
		case t.kind == onSource && t.network.Bits() > 0:
			if entry.from.IsValid() && !entry.from.Contains(t.network.Addr()) {
				return // of two networks at once nobody is
			}
			entry.from = t.network
		case t.kind == onInterface && t.name != "+":
			entry.iface = t.name
		case t.kind == onAddress && t.network.Bits() > 0:
			refuse("an entry of allow is for every address of this host, and so is not made of a rule for one")
			return
		case t.kind == onSourcePort:
			refuse(whySourcePort)
			return
		}
	}
	for _, s := range services {
		a.entry(r, entry, protocol, s)
	}
}

// entry adds one entry, if packets on paper bear it out.
func (a *allower) entry(r *rule, e allowed, protocol int, s policy.Service) {
	port := policy.Port{Protocol: policy.TCP, Number: a.ports[a.strays].Number}
	switch protocol {
	case 0:
		if (s != policy.Service{}) {
			return // iptables has no ports without a protocol
		}
	case int(policy.TCP), int(policy.UDP):
		s.Protocol = policy.Protocol(protocol)
		port.Protocol = s.Protocol
		if s.Last == 0 {
			s.Last = 65535
		} else {
			port.Number = s.First
		}
		s.First = max(s.First, 1)
	case int(policy.ICMP):
		s, port = policy.Service{Protocol: policy.ICMP}, policy.Port{Protocol: policy.ICMP}
	default:
		p := policy.Protocol(protocol)
		if !slices.Contains([]policy.Protocol{policy.GRE, policy.ESP, policy.AH, policy.VRRP}, p) {
			if !r.marked {
				r.marked = true
				a.left.add(r.line, "a policy allows tcp, udp, icmp/echo, esp, ah, gre and vrrp, not %s", p)
			}
			return
		}
		r.marked = true // no probe is sent of these
		e.service = policy.Service{Protocol: p}
		a.keep(e)
		return
	}
	at := place{iface: e.iface, from: e.from}
	out := a.send(probe{port, at}, tags{})
	if out.verdict != accepted || out.forward.IsValid() {
		return
	}
	e.service = s
	if s == (policy.Service{}) && e.iface == "" && !e.from.IsValid() {
		return // everything: the posture says it
	}
	if e.iface == "" && !e.from.IsValid() && a.covers(&e) {
		return // it would open a door, or be in the way of its knocks
	}
	r.marked = true
	a.keep(e)
}

// covers tells whether an entry would let in a door's service, or a knock.
func (a *allower) covers(e *allowed) bool {
	return slices.ContainsFunc(a.side.doors, func(f *foundDoor) bool {
		return slices.ContainsFunc(slices.Concat(f.Services, f.Knock.Sequence), func(p policy.Port) bool { return e.takes(probe{port: p}) })
	})
}

func (a *allower) keep(e allowed) {
	if !slices.ContainsFunc(a.all, func(o allowed) bool { return o.service == e.service && o.from == e.from && o.iface == e.iface }) {
		a.all = append(a.all, e)
	}
}

// takes tells whether an entry lets a probe in.
func (e *allowed) takes(p probe) bool {
	if e.iface != "" && e.iface != p.at.iface || e.from.IsValid() && e.from.Bits() > 0 && !holdsNetwork(e.from, p.at.from) {
		return false
	}
	if e.service == (policy.Service{}) || p.port.Protocol != e.service.Protocol {
		return e.service == (policy.Service{})
	}
	return p.port.Protocol == policy.ICMP || p.port.Number >= e.service.First && p.port.Number <= e.service.Last
}

func holdsNetwork(a, b netip.Prefix) bool {
	return b.IsValid() && a.Bits() <= b.Bits() && a.Contains(b.Addr())
}
