//go:build linux

package nftables

import (
	"fmt"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

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

	c.undiverting()

	refuse := c.newChain("refuse", "What is not admitted goes on to the chain refused. In raw it stays untracked, so that a\n"+
		"scan leaves nothing behind.")
	if c.p.Posture == policy.Closed && c.p.Cover.Answer(policy.TCP) == policy.AnswerReset {
		// In guard this would take less time than an answer of the chain idle.
		refuse.say("A RST is the same from here, and takes less, if the kernel would not drop the packet first.",
			isProto(policy.TCP), isFamily(ipv6), goTo(answer))
		refuse.add(isProto(policy.TCP), noOptions, reversePath, goTo(answer))
	}
	refuse.add(carryID(refused), notrack, accept)
	return refuse
}

// noOptions matches an IPv4 packet without options.
var noOptions = made{"ip hdrlength 5", func(k *known) {
	k.needFamily(ipv4)
	k.append(payload(expr.PayloadBaseNetworkHeader, 0, 1)(register(0))...)
	k.append(&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 1, Mask: []byte{0xf}, Xor: []byte{0}})
	k.equal([]byte{5})
}}

// reversePath matches a packet that came by the interface by which an answer would go.
// Such a packet passes rp_filter, however strict.
var reversePath = simple("fib saddr . iif oif exists",
	&expr.Fib{Register: register(0), ResultOIF: true, FlagSADDR: true, FlagIIF: true, FlagPRESENT: true},
	&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: binaryutil.NativeEndian.PutUint32(1)},
)

// keepRefused has a chain on the way leave alone what is going to be refused.
func (c *compiler) keepRefused(ch *chain) {
	if c.p.Cover.Answers() {
		ch.add(isRefused, accept)
	}
}

// undiverting makes the chain that takes back what DNAT of others does to a packet that is
// going to be refused: a port that is hidden, but published from a container, is this
// host's. A NAT chain with a binding of its own would keep DNAT away, but where nobody else
// has one, it makes each new connection of the host dearer by a microsecond.
func (c *compiler) undiverting() {
	ch := c.newChain("undivert", "What was not admitted stays here, if a DNAT of others would send it elsewhere.")
	ch.base = &base{nft.ChainTypeFilter, nft.ChainHookPrerouting, "prerouting", -99, "dstnat + 1"}
	ch.add(isNot(carried, idText(refused), idBytes(refused)), accept)
	for _, f := range families {
		ch.add(isDiverted, restore(daddr(f), originalDaddr(f)))
	}
	ch.say("A checksum of 0 is none, and stays 0.",
		isDiverted, is(checksum, "0", []byte{0, 0}), restore(dport(policy.UDP), originalPort), noChecksum, accept)
	for _, p := range withPorts {
		ch.add(isDiverted, restore(dport(p), originalPort))
	}
}

// checksum is a datagram's; noChecksum takes it away, which IPv4 allows (RFC 768).
var (
	checksum = field{
		text: "udp checksum", bytes: 2, proto: policy.UDP, load: payload(expr.PayloadBaseTransportHeader, 6, 2),
	}
	noChecksum = made{"udp checksum set 0", func(k *known) {
		k.append(&expr.Immediate{Register: register(0), Data: []byte{0, 0}})
		k.append(&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: register(0), Base: expr.PayloadBaseTransportHeader,
			Offset: 6, Len: 2, CsumType: expr.CsumTypeInet, CsumOffset: 6,
		})
	}}
)

// restore writes a field of connection tracking's over one of the packet's, and keeps the
// checksums right.
func restore(to, from field) statement {
	return made{to.text + " set " + from.text, func(k *known) {
		k.needFamily(to.family)
		k.needProto(to.proto)
		k.append(from.load(register(0))...)
		write := *to.load(register(0))[0].(*expr.Payload)
		write.OperationType, write.DestRegister, write.SourceRegister = expr.PayloadWrite, 0, register(0)
		const pseudoHeader = 1 // NFT_PAYLOAD_L4CSUM_PSEUDOHDR: TCP and UDP count the addresses
		switch {
		case to.proto == policy.TCP:
			write.CsumType, write.CsumOffset = expr.CsumTypeInet, 16
		case to.proto == policy.UDP:
			write.CsumType, write.CsumOffset = expr.CsumTypeInet, 6
		case to.family == ipv4:
			write.CsumType, write.CsumOffset, write.CsumFlags = expr.CsumTypeInet, 10, pseudoHeader
		default:
			write.CsumFlags = pseudoHeader
		}
		k.append(&write)
	}}
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

// toEveryone matches a packet in a frame that was for others, too. No kernel answers TCP
// in such a frame, whatever address the packet is for. (Nor UDP, but reject sees to that.)
var toEveryone = simple("meta pkttype != host",
	&expr.Meta{Key: expr.MetaKeyPKTTYPE, Register: register(0)},
	&expr.Cmp{Op: expr.CmpOpNeq, Register: register(0), Data: []byte{unix.PACKET_HOST}},
)

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
