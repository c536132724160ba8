package migrate

import (
	"slices"

	"postern/internal/policy"
)

// findAllowed finds the rules that accept without a knock, and makes entries of
// allow of them.
func (ld *loader) findAllowed(s *side) []allowed {
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
		// A source that is in no list does not pass these.
		if r.explained || slices.ContainsFunc(r.tests, func(t test) bool {
			return t.kind == onUnknown || t.kind == onFlood || t.kind == onRecent && t.recent.verb != "set" && !t.not
		}) {
			continue
		}
		tests := slices.Concat(led, r.tests)
		if next := a.set.target(c, r); next != nil && !next.builtin() && !r.usesLists() {
			a.visit(next, tests)
		}
		if r.target == "ACCEPT" && c.table == "filter" && !ordinary(tests) {
			a.rule(r, tests)
		}
	}
}

// refuse says why no entry can be made of a rule.
func (a *allower) refuse(r *rule, format string, args ...any) {
	if !r.explained {
		r.explained = true
		a.list.add(r.line, format, args...)
	}
}

// rule makes entries of a rule that accepts.
func (a *allower) rule(r *rule, tests []test) {
	services := []policy.Service{{}}
	entry := allowed{line: r.line}
	protocol := 0
	for i := range tests {
		t := &tests[i]
		switch {
		case t.kind == onState && !t.not, t.kind == onRate, t.kind == onRecent, t.kind == onType && !t.not, t.kind == onSourceType && !t.not, t.kind == onFlags:
		case t.not:
			a.refuse(r, "an entry of allow says who and what, not who and what else")
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
			if entry.From.IsValid() && !entry.From.Contains(t.network.Addr()) {
				return // of two networks at once nobody is
			}
			entry.From = t.network
		case t.kind == onInterface && t.name != "+":
			entry.Interface = t.name
		case t.kind == onAddress && t.network.Bits() > 0:
			a.refuse(r, "an entry of allow is for every address of this host, and so is not made of a rule for one")
			return
		case t.kind == onSourcePort:
			a.refuse(r, whySourcePort)
			return
		}
	}
	for _, s := range services {
		a.entry(r, entry, policy.Protocol(protocol), s)
	}
}

// entry adds one entry, if a probe confirms it.
func (a *allower) entry(r *rule, e allowed, protocol policy.Protocol, s policy.Service) {
	port := policy.Port{Protocol: policy.TCP, Number: a.ports[a.others].Number}
	switch {
	case protocol == 0 && s != policy.Service{}:
		return // iptables has no ports without a protocol
	case protocol == policy.TCP || protocol == policy.UDP:
		s.Protocol, port.Protocol = protocol, protocol
		if s.Last == 0 {
			s.Last = 65535
		} else {
			port.Number = s.First
		}
		s.First = max(s.First, 1)
	case protocol == policy.ICMP:
		s, port = policy.Service{Protocol: policy.ICMP}, policy.Port{Protocol: policy.ICMP}
	case protocol != 0: // no probe is sent of these
		r.explained = true
		e.Service = policy.Service{Protocol: protocol}
		a.keep(e)
		return
	}
	out := a.send(probe{port, place{iface: e.Interface, from: e.From}}, listed{})
	e.Service = s
	anyone := e.Interface == "" && !e.From.IsValid()
	switch {
	case !out.accepts, out.forward.IsValid():
	case anyone && s == policy.Service{}: // everything: the posture says it
	case anyone && slices.ContainsFunc(a.side.doors, func(f *foundDoor) bool {
		return slices.ContainsFunc(slices.Concat(f.Services, f.Knock.Sequence), func(p policy.Port) bool { return e.takes(probe{port: p}) })
	}): // it would open a door, or be in the way of its knocks
	default:
		r.explained = true
		a.keep(e)
	}
}

func (a *allower) keep(e allowed) {
	if !slices.ContainsFunc(a.all, e.same) {
		a.all = append(a.all, e)
	}
}

func (e allowed) same(o allowed) bool { return e.Allow == o.Allow }

// ordinary recognizes a rule for what Postern lets pass, or refuses, by itself:
// loopback, what is for other hosts, known connections, invalid packets,
// combinations of flags that open no connection.
func ordinary(tests []test) bool {
	return slices.ContainsFunc(tests, func(t test) bool {
		switch t.kind {
		case onState:
			return t.not == slices.Contains(t.words, "NEW")
		case onInterface:
			return t.name == "lo" && !t.not
		case onSource, onAddress:
			return !t.not && t.network.Addr().IsLoopback()
		case onType:
			return t.not && slices.Contains(t.words, "LOCAL")
		case onFlags:
			return (syn&t.mask == t.flags) == t.not
		}
		return false
	})
}

// neededICMP are the messages of ICMP and ICMPv6 that a host must hear.
var neededICMP = []string{
	"0", "3", "3/4", "4", "11", "12", "0/0", "11/0", "3/1", "3/3", "echo-reply", "destination-unreachable",
	"fragmentation-needed", "time-exceeded", "ttl-exceeded", "parameter-problem", "source-quench",
	"1", "2", "129", "133", "134", "135", "136", "130", "131", "132", "143", "packet-too-big",
	"router-solicitation", "router-advertisement", "neighbour-solicitation", "neighbour-advertisement",
	"neighbor-solicitation", "neighbor-advertisement",
}

// needed recognizes a rule for ICMP and IGMP that a host needs, and for answers
// of DHCP: Postern lets these in by itself.
func needed(c *chain, r *rule) bool {
	if c.name == "OUTPUT" || c.name == "FORWARD" || r.target != "ACCEPT" {
		return false
	}
	from, to := uint16(0), uint16(0)
	for _, t := range r.tests {
		switch {
		case t.kind == onUnknown, t.kind == onRate, t.kind == onFlood:
			return false
		case t.not:
		case t.kind == onProtocol && t.protocol == igmp, t.kind == onICMP && slices.Contains(neededICMP, t.words[0]):
			return true
		case t.kind == onSourcePort && len(t.ports) == 1:
			from = t.ports[0].Last
		case t.kind == onPort && len(t.ports) == 1:
			to = t.ports[0].First
		}
	}
	return to == 68 && from == 67 || to == 546 && (from == 547 || from == 0)
}
