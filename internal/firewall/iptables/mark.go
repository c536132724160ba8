package iptables

import (
	"fmt"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// again lets in the first packet of a connection that was let in, once more. One that
// a door has admitted is marked again: only its connection has kept the mark.
func (c *compiler) again(ch *chain) {
	c.admitted = pass
	if m := c.p.Admitted.Mark; m != 0 {
		marking := c.chain(&c.filter, "ADMITTED", "What a door admits is marked, for the rules of others.")
		mark(marking, m)
		marking.add("", pass)
		c.admitted = to(marking)
		ch.add("The first packet of a connection that a door has admitted, once more.", c.admitted, isAgain, isMarked(m))
	}
	ch.add("The first packet of a connection that was let in, once more: its sender has had no answer.", pass, isAgain)
}

// divertMarked marks what a door diverts to a service before it is sent there.
func (c *compiler) divertMarked(s *automaton.Service, there target) target {
	if c.p.Admitted.Mark == 0 {
		return there
	}
	ch := c.chain(&c.nat, fmt.Sprintf("TO-%s%d", s.Port.Protocol, s.Port.Number),
		fmt.Sprintf("What a door sends on to %s is marked, for the rules of others.", s.Forward))
	mark(ch, c.p.Admitted.Mark)
	ch.add("", there, matching("-p %s", s.Port.Protocol)) // without which iptables takes no port
	return to(ch)
}

// mark sets the bits in the packet's mark and in its connection's. The others stay.
func mark(ch *chain, m policy.Mark) {
	for _, of := range []string{"MARK", "CONNMARK"} {
		ch.add("", target{verdict: fmt.Sprintf("-j %s --set-xmark %s/%s", of, m, m)})
	}
}

// isMarked matches packets of marked connections.
func isMarked(m policy.Mark) match { return matching("-m connmark --mark %s/%s", m, m) }

// marks reports whether what was admitted is marked before a chain of others sees it:
// INPUT marks it, and for services on other hosts the nat table's PREROUTING. Ours are
// the first rules there. Of tables with the same priority, those come first that were
// made first.
func marks(h firewall.Hook) bool {
	const filter = 0 // NF_IP_PRI_FILTER
	switch h.Name {
	case "prerouting":
		return false
	case "input":
		return h.Priority > filter || h.Table == "ip filter" || h.Table == "ip6 filter"
	}
	return true
}
