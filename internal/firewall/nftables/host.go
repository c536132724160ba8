//go:build linux

package nftables

import (
	nft "github.com/google/nftables"

	"postern/internal/policy"
)

// host fills the chain of what reaches this host.
func (c *compiler) host() {
	ch := c.input
	c.ungoverned(ch)
	c.bound(ch)
	ch.add(isEstablished, accept)
	if c.p.Posture == policy.Closed {
		c.needed(ch)
	}
	if c.allow != nil {
		ch.add(jump(c.allowOriginal))
		ch.say("An untracked flow has only the port that it has now.", isUntracked, jump(c.allow))
	}
	for _, f := range families {
		if c.live.syns != nil {
			ch.add(isSYN, carry(sequence),
				in(c.live.syns[f], append(originalTuple(f, policy.TCP), carried)...), goTo(c.pass))
		}
		if c.live.packets != nil {
			ch.add(in(c.live.packets[f], originalTuple(f, policy.UDP)...), goTo(c.pass))
		}
	}
	for _, f := range families {
		ch.add(isNotSYN, in(c.live.sessions[f], tuple(f, policy.TCP)...), goTo(c.pass))
	}
	ch.add(goTo(c.unjudged))

	if c.idle != nil {
		c.idlePorts()
	}
}

// bound keeps routing headers from leading past a door with an address: the kernel would go
// on from the address that the rules see to another one of this host, and asks no rule then.
func (c *compiler) bound(ch *chain) {
	if c.service.at[ipv6] == nil {
		return
	}
	routed := c.newChain("routed", "An IPv6 packet with a routing header. It must not lead to what is hidden on one address.")
	routed.add(routingBetween(3, 4), drop)
	routed.add(routingNext(policy.TCP), routingNext(policy.UDP), drop)
	for _, p := range withPorts {
		if s := c.hidden[p]; s != nil {
			ch.add(hasRouting, in(s, dport(p)), jump(routed))
		}
	}
}

// idlePorts answers for the ports with nothing behind them, just as the chain
// cover does for the hidden services.
func (c *compiler) idlePorts() {
	c.ungoverned(c.idle)
	c.idle.add(isEstablished, accept)
	c.idle.add(toOthers, accept)
	c.idle.add(hasSocket, accept)
	c.idle.add(toEveryone, accept)
	c.unrouted(c.idle)
	c.idle.add(isACK, isInvalid, drop) // as in the chain cover
	c.idle.answer(c.p.Cover)
}

// ungoverned accepts what arrives on interfaces that the policy is not about.
func (c *compiler) ungoverned(ch *chain) {
	if c.interfaces == nil {
		ch.add(isLoopback, accept)
		return
	}
	ch.add(notIn(c.interfaces, interfaceName), accept)
}

// needed accepts what a host cannot stay on its network without: neighbour and
// router discovery (RFC 4861), multicast listener discovery (RFC 2710, 3810),
// IGMP, addresses by DHCP, and the errors that path MTU discovery lives on.
func (c *compiler) needed(ch *chain) {
	set4 := c.newSet(&set{
		name: "needed4", doc: "The ICMP messages that a host cannot do without: errors, path MTU discovery among them.",
		key: []datatype{nft.TypeICMPType},
		elements: numbers(
			number{"destination-unreachable", 3}, number{"time-exceeded", 11}, number{"parameter-problem", 12},
		),
	})
	set6 := c.newSet(&set{
		name: "needed6", doc: "The same for IPv6, with neighbours, routers and multicast listeners.",
		key: []datatype{nft.TypeICMP6Type},
		elements: numbers(
			number{"destination-unreachable", 1}, number{"packet-too-big", 2}, number{"time-exceeded", 3},
			number{"parameter-problem", 4}, number{"mld-listener-query", 130}, number{"mld-listener-report", 131},
			number{"mld-listener-done", 132}, number{"nd-router-solicit", 133}, number{"nd-router-advert", 134},
			number{"nd-neighbor-solicit", 135}, number{"nd-neighbor-advert", 136}, number{"nd-redirect", 137},
			number{"mld2-listener-report", 143},
		),
	})
	ch.add(in(set4, icmpType(ipv4)), accept)
	ch.add(in(set6, icmpType(ipv6)), accept)
	ch.add(isProto(igmp), accept)
	c.dhcp(ch)
}

// A number has a name in nft.
type number struct {
	name  string
	value byte
}

func numbers(all ...number) []element {
	var elements []element
	for _, n := range all {
		elements = append(elements, elementOf(part{n.name, []byte{n.value}}))
	}
	return elements
}

// dhcp accepts the answers of address servers. They may come before this host
// has an address, so that conntrack does not know the request. Where no socket waits
// for them (many clients read them off the link), they are refused like any other packet.
func (c *compiler) dhcp(ch *chain) {
	if c.p.Posture != policy.Closed {
		return
	}
	ch.add(isPort(sport(policy.UDP), 67), isPort(dport(policy.UDP), 68), hasSocket, accept)
	ch.add(isFamily(ipv6), isPort(sport(policy.UDP), 547), isPort(dport(policy.UDP), 546), hasSocket, accept)
}
