package iptables

import (
	"postern/internal/policy"
)

// general makes the rules of every policy that is not classic. They
// stand behind connection tracking, in the chain INPUT: what they judge opens a new
// connection to this host, for certain.
func (c *compiler) general() {
	closed := c.p.Posture == policy.Closed
	end := "ACCEPT"
	if closed && len(c.p.Interfaces) == 0 {
		end = "DROP"
	}
	input := c.base("INPUT", end)
	c.base("FORWARD", "ACCEPT")
	c.base("OUTPUT", "ACCEPT")

	arrive := c.arriving(&c.filter, input, "What comes in by these interfaces is judged. All else is let in.")
	if arrive == input {
		input.add("What this host sends to itself is let in.", pass, by("lo"))
	}
	c.bound(arrive)
	arrive.add("Connections that the kernel knows go on, and so do answers to what this host has asked.", pass, isEstablished)
	arrive.add("Errors about them come in, too. (A second connection that belongs to one, of FTP say, has to knock.)",
		pass, c.f.icmp(), isRelated)
	c.again(arrive)
	if closed {
		c.needed(arrive)
	}
	c.allow(arrive, "What needs no knock.")

	c.refusePackets(closed)
	unjudged, doc := pass, "Broadcast and multicast are left alone, and are no knocks."
	if closed {
		unjudged, doc = drop, "Broadcast and multicast are no knocks."
	}
	if !closed {
		c.dropMulticast(arrive)
	}
	arrive.add(doc, unjudged, toOthers)
	arrive.add("TCP that belongs to no connection and opens none: a scan, most likely. It resets no knocks.",
		c.cover, isTCP, notSYN)
	c.knocks()
	c.keyPort(arrive)
	for i, kind := range [][]match{{isTCP}, {isUDP}, c.f.on(policy.Port{Protocol: policy.ICMP})} {
		doc := ""
		if i == 0 {
			doc = "What would open a new connection: a knock, the connection after it, or neither."
		}
		arrive.add(doc, to(c.knocking), kind...)
	}
	if closed {
		arrive.add("Anything else is not for this host to answer.", drop)
	} else {
		arrive.add("Anything else is left alone.", pass)
	}
	c.diverting()
	c.tokens()
}

// arriving returns the chain of a table for packets that arrive where the policy holds:
// the kernel's own chain, or where the policy names interfaces, one that it leads to.
func (c *compiler) arriving(in *[]*chain, base *chain, doc string) *chain {
	if len(c.p.Interfaces) == 0 {
		return base
	}
	arrive := c.chain(in, "ARRIVED", "What came in by one of the interfaces that the policy is about.")
	for _, name := range c.p.Interfaces {
		base.add(doc, to(arrive), by(name))
		doc = ""
	}
	return arrive
}

// dropMulticast keeps hidden services from answering broadcast and multicast, or TCP that
// is for the nearest of several hosts (IPv6 anycast). No port of a host with nothing behind
// it answers such packets, whatever the cover; UDP to an anycast address it does answer.
func (c *compiler) dropMulticast(ch *chain) {
	doc := "A hidden service does not answer broadcast and multicast, either."
	for i := range c.m.Services {
		s := &c.m.Services[i]
		if !c.reachable(s) {
			continue
		}
		t := drop
		if c.f == IPv6 && s.Port.Protocol == policy.UDP {
			t = c.hidden // which answers no multicast
		}
		// Such a packet reaches a service on one address, too, if that listens on all.
		ch.add(doc, t, append(c.f.on(s.Port), toOthers)...)
		doc = ""
	}
}

// bound keeps routing headers from leading past a door with an address: the kernel would go
// on from the address that the rules see to another one of this host, and asks no rule then.
func (c *compiler) bound(ch *chain) {
	doc := "No routing header leads to what is hidden on one address only."
	for i := range c.m.Services {
		if s := &c.m.Services[i]; c.f == IPv6 && s.Address.IsValid() && c.reachable(s) {
			ch.add(doc, drop, append(c.f.on(s.Port), isRouted)...)
			doc = ""
		}
	}
}

// needed accepts what a host cannot stay on its network without: neighbour and
// router discovery (RFC 4861), multicast listener discovery (RFC 2710, 3810), IGMP
// and addresses by DHCP. The errors that path MTU discovery lives on are RELATED.
func (c *compiler) needed(ch *chain) {
	if c.f == IPv6 {
		for i, kind := range []int{130, 131, 132, 133, 134, 135, 136, 137, 143} {
			doc := ""
			if i == 0 {
				doc = "Without these IPv6 finds no neighbour, no router and no multicast."
			}
			ch.add(doc, pass, c.f.icmp(), icmp6(kind))
		}
		ch.add("Answers of address servers.", pass, answering(547, 546)...)
		return
	}
	ch.add("Multicast membership.", pass, matching("-p igmp"))
	ch.add("Answers of address servers.", pass, answering(67, 68)...)
}

// allow adds what needs no knock.
func (c *compiler) allow(ch *chain, doc string) {
	for i := range c.p.Allow {
		a := &c.p.Allow[i]
		if a.From.IsValid() && !c.f.of(a.From.Addr()) {
			continue
		}
		ch.add(doc, pass, c.conditions(a)...)
		doc = ""
	}
}

// conditions is what an allow entry asks for.
func (c *compiler) conditions(a *policy.Allow) []match {
	matches := c.senderMatches(a)
	switch s := a.Service; s.Protocol {
	case 0:
	case policy.ICMP:
		matches = append(matches, c.f.on(policy.Port{Protocol: policy.ICMP})...)
	case policy.TCP, policy.UDP:
		matches = append(matches, between(s.Protocol, s.First, s.Last)...)
	default:
		matches = append(matches, ofProtocol(s.Protocol))
	}
	return matches
}

// senderMatches is what it asks of where the packet comes from.
func (c *compiler) senderMatches(a *policy.Allow) []match {
	var matches []match
	if a.From.IsValid() && a.From.Bits() > 0 {
		matches = append(matches, from(a.From))
	}
	if a.Interface != "" {
		matches = append(matches, by(a.Interface))
	}
	return matches
}

// refusePackets decides what becomes of packets that are not let in, which must not
// depend on how far their senders have come.
func (c *compiler) refusePackets(closed bool) {
	if closed && !c.p.Cover.Answers() {
		c.cover = drop
		return
	}
	name, doc := "COVER", "What is not let in is answered as a port with nothing behind it answers."
	if !closed {
		name, doc = "HIDDEN", "A hidden service looks like a port with nothing behind it."
	}
	refuse := c.refusalChain(name, doc)
	c.cover, c.hidden = to(refuse), to(refuse)
	if closed {
		return
	}
	shown := c.chain(&c.filter, "COVER", "What is not let in, if it is for a hidden service. All else is left alone.")
	for i := range c.m.Services {
		if s := &c.m.Services[i]; c.reachable(s) {
			shown.add("", to(refuse), c.addressed(s)...)
		}
	}
	c.cover = to(shown)
	if !c.p.Cover.LooksIdle() {
		shown.add("", pass)
		return
	}
	shown.add("", target{chain: c.unused(), leave: true})
}

// unused makes the chain of ports with nothing behind them. The kernel answers for
// those, too, but not in quite the same words as iptables does for the hidden ones.
// (Over IPv6 its RST has a flow label, for one.) Beside rules of others that is behind
// all of these: what they accept, or drop, is theirs to decide.
func (c *compiler) unused() *chain {
	unused := c.chain(&c.filter, "UNUSED", "Ports with nothing behind them. They are refused in the same words as the hidden ones.")
	unused.add("", pass, isEstablished)
	unused.add("", pass, toOthers)
	unused.add("Some program waits for it.", pass, matching("-m socket --nowildcard"))
	c.refuse(unused)

	end := c.chain(&c.filter, "IDLE", "")
	end.last = "INPUT"
	if len(c.p.Interfaces) == 0 {
		end.add("", pass, by("lo"))
		end.add("", to(unused))
	}
	for _, name := range c.p.Interfaces {
		end.add("", to(unused), by(name))
	}
	return unused
}

// refusalChain makes the chain that answers in place of a hidden service.
func (c *compiler) refusalChain(name, doc string) *chain {
	ch := c.chain(&c.filter, name, doc)
	c.refuse(ch)
	ch.add("", drop)
	return ch
}

// refuse answers as the policy's cover says.
func (c *compiler) refuse(ch *chain) {
	if c.p.Cover.Answers() {
		ch.add("No host answers TCP in a frame that is for others, too.", drop, isTCP, matching("-m pkttype ! --pkt-type unicast"))
		if c.f == IPv6 {
			ch.add("Few hosts follow routing headers, and they are not answered.", drop, isRouted)
		}
		ch.add("It may be a late packet of an open connection, which an answer would end.", drop, isTCP, isACK, isInvalid)
	}
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP} {
		if a := c.p.Cover.Answer(p); a != policy.NoAnswer {
			ch.add("", c.f.answer(a), matching("-p %s", p))
		}
	}
}

// answer returns the target that gives an answer.
func (f Family) answer(a policy.Answer) target {
	with := ""
	switch {
	case a == policy.AnswerReset:
		with = "tcp-reset"
	case a == policy.AnswerUnreachable && f == IPv6:
		with = "icmp6-port-unreachable"
	case a == policy.AnswerUnreachable:
		with = "icmp-port-unreachable"
	default:
		panic("iptables: no target answers with " + a.String())
	}
	return target{verdict: "-j REJECT --reject-with " + with}
}
