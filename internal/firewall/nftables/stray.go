//go:build linux

package nftables

import "postern/internal/policy"

// strays refuses what only pretends to belong to a connection. The input hook would
// do, but for others' DNAT: by way of it an ACK for a hidden port that is
// published from a container reached the container, which answered with its RST.
func (c *compiler) strays() {
	stray := c.newChain("stray", "A TCP packet that belongs to no known connection and opens none, before any DNAT.")
	c.packet.add(c.governed(), isNotSYN, toThisHost, goTo(stray))
	if c.allow != nil {
		stray.add(jump(c.allow))
	}
	for _, f := range families {
		stray.add(in(c.live.sessions[f], tuple(f, policy.TCP)...), accept)
	}
	stray.add(goTo(c.refuse))
}

// refuseLate fills the chain that refuses new connections to hidden services behind
// conntrack, where there is one. It comes before what conntrack knows is let
// through: a SYN on the ports of an older connection is a new one all the same.
func (c *compiler) refuseLate() {
	if c.late == nil || c.live.syns == nil {
		return
	}
	c.packet.add(c.governed(), isSYN, toThisHost, in(c.hidden[policy.TCP], dport(policy.TCP)), goTo(c.late))
	if c.allow != nil {
		c.late.add(jump(c.allow))
	}
	for _, f := range families {
		c.late.add(isFamily(f), carry(sequence), in(c.live.syns[f], synTuple(f)...), goTo(c.pass))
	}
	c.late.add(goTo(c.refuse))
}
