package nftables

import "postern/internal/policy"

// strays refuses what only pretends to belong to a connection. The input hook would
// do, but for somebody's DNAT: by way of it an ACK for a hidden port that is
// published from a container reached the container, which answered with its RST.
func (c *compiler) strays() {
	stray := c.newChain("stray", "A TCP packet that belongs to no known connection and opens none, before anybody's DNAT.")
	c.packet.add(c.governed(), isNotSYN, toThisHost, goTo(stray))
	if c.allow != nil {
		stray.add(jump(c.allow))
	}
	for _, f := range families {
		stray.add(in(c.live.sessions[f], tuple(f, policy.TCP)...), accept)
	}
	stray.add(goTo(c.refuse))
}
