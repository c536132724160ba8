//go:build linux

package nftables

import (
	"fmt"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/policy"
)

// refused is what a packet carries that is to be refused in the input hook. It is no
// state's id and no grant's: of those neither half is 0.
const refused uint32 = 0xffff << 16

var isRefused = is(carried, idText(refused), idBytes(refused))

// refusing makes the chains by which answers are given, and returns the one that leads
// there from before the routing decision. A packet is judged ahead of connection
// tracking, but answered only where it has passed all that the kernel checks before it
// asks for a socket: its source (rp_filter), options in IP, what kind of address it is
// for. An answer to what the kernel drops would tell; and an ICMP error has its right
// source only where the kernel knows the packet to be for this host (icmp_send in
// net/ipv4/icmp.c asks for RTCF_LOCAL).
func (c *compiler) refusing(answer *chain) *chain {
	first := c.newChain("refused", "What was not admitted is answered here, after the kernel's own checks and before the\n"+
		"rules of others.")
	first.base = &base{nft.ChainTypeFilter, nft.ChainHookInput, "input", -300, "raw"}
	first.add(isRefused, goTo(answer))

	same := c.newChain("undiverted", "What was not admitted stays here: no DNAT sends it elsewhere.")
	same.base = &base{nft.ChainTypeNAT, nft.ChainHookPrerouting, "prerouting", MarkPriority, "mangle + 1"}
	for _, f := range families {
		same.add(isRefused, divertTo(f, daddr(f)))
	}

	refuse := c.newChain("refuse", "What is not admitted goes on to the chain refused. In raw it stays untracked, so that a\n"+
		"scan leaves nothing behind.")
	refuse.add(carryID(refused), notrack, accept)
	return refuse
}

// elsewhere returns the chain that answers what reaches this host by an address that is
// not its own. No port of a host answers TCP to broadcast, to multicast, or to the
// nearest of several hosts (IPv6 anycast, as a router's prefix:: is).
func (c *compiler) elsewhere(answer *chain) *chain {
	ch := c.newChain("unjudged", "What is not admitted and has not been judged.")
	ch.add(isProto(policy.TCP), toOthers, drop)
	ch.add(goTo(answer))
	return ch
}

// unrouted deals with routing headers as the kernel does where nobody has told it to follow
// any. It drops packets with those of RPL (type 3) and of segment routing (type 4), and
// complains of all others that are not at their end, but for mobile IPv6's (type 2).
// A header that is not the last one might hide another behind it, and is dropped too.
func (c *compiler) unrouted(ch *chain) {
	ch.add(routingBetween(3, 4), drop)
	ch.add(isNot(routing("type", 2), "2", []byte{2}), isNot(routing("seg-left", 3), "0", []byte{0}), goTo(c.pass))
	ch.add(routingNext(policy.TCP), routingNext(policy.UDP), drop)
}

// The fields of a routing header (RFC 8200, 4.4).
func routing(name string, offset uint32) field {
	const header = 43
	return field{text: "rt " + name, bytes: 1, family: ipv6, load: func(reg uint32) []expr.Any {
		return []expr.Any{&expr.Exthdr{DestRegister: reg, Type: header, Offset: offset, Len: 1, Op: expr.ExthdrOpIpv6}}
	}}
}

// hasRouting matches a packet with a routing header.
var hasRouting = made{"exthdr rt exists", func(k *known) {
	const header, present = 43, 1 // NFT_EXTHDR_F_PRESENT
	k.needFamily(ipv6)
	k.append(&expr.Exthdr{DestRegister: register(0), Type: header, Len: 1, Flags: present, Op: expr.ExthdrOpIpv6})
	k.equal([]byte{1})
}}

// routingBetween matches types of routing headers.
func routingBetween(first, last byte) statement {
	f := routing("type", 2)
	return made{fmt.Sprintf("%s %d-%d", f.text, first, last), func(k *known) {
		k.load([]field{f})
		k.append(
			&expr.Cmp{Op: expr.CmpOpGte, Register: register(0), Data: []byte{first}},
			&expr.Cmp{Op: expr.CmpOpLte, Register: register(0), Data: []byte{last}},
		)
	}}
}

// routingNext matches a routing header that something else than the protocol follows.
func routingNext(p policy.Protocol) statement {
	return isNot(routing("nexthdr", 0), p.String(), []byte{byte(p)})
}

// notrack keeps a packet from connection tracking, where that has not seen it yet.
var notrack = simple("notrack", &expr.Notrack{})

// divertTo is a DNAT to an address that the packet has, which keeps all others away.
func divertTo(f family, to field) statement {
	return made{"dnat " + f.ip() + " to " + to.text, func(k *known) {
		k.load([]field{to})
		k.append(&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f), RegAddrMin: register(0)})
	}}
}
