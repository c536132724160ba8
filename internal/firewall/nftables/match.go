//go:build linux

package nftables

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// is compares a field with a value, written as nft writes it.
func is(f field, text string, value []byte) statement {
	return compare(f, "", expr.CmpOpEq, text, value)
}

func isNot(f field, text string, value []byte) statement {
	return compare(f, "!= ", expr.CmpOpNeq, text, value)
}

func compare(f field, sign string, op expr.CmpOp, text string, value []byte) statement {
	return made{f.text + " " + sign + text, func(k *known) {
		k.load([]field{f})
		k.append(&expr.Cmp{Op: op, Register: register(0), Data: value})
	}}
}

func isPort(f field, n uint16) statement { return is(f, fmt.Sprint(n), portBytes(n)) }

// isBetween compares a port with a range, both ends included.
func isBetween(f field, first, last uint16) statement {
	if first == last {
		return isPort(f, first)
	}
	return made{fmt.Sprintf("%s %d-%d", f.text, first, last), func(k *known) {
		k.load([]field{f})
		k.append(
			&expr.Cmp{Op: expr.CmpOpGte, Register: register(0), Data: portBytes(first)},
			&expr.Cmp{Op: expr.CmpOpLte, Register: register(0), Data: portBytes(last)},
		)
	}}
}

// isFrom compares the sender's address with a prefix.
func isFrom(p netip.Prefix) statement {
	f := of(p.Addr())
	bits, addr := p.Bits(), p.Addr().AsSlice()
	a := saddr(f, f.bits())
	switch {
	case bits == 0:
		return isFamily(f)
	case p.IsSingleIP():
		return is(a, p.Addr().String(), addr)
	}
	return made{a.text + " " + p.String(), func(k *known) {
		k.needFamily(f)
		if bits%8 == 0 { // nft loads only the bytes that count
			part := a.load(register(0))[0].(*expr.Payload)
			part.Len = uint32(bits / 8)
			k.append(part)
			k.equal(addr[:bits/8])
			return
		}
		k.append(a.load(register(0))...)
		mask := net.CIDRMask(bits, f.bits())
		k.append(&expr.Bitwise{
			SourceRegister: register(0), DestRegister: register(0), Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask)),
		})
		k.equal(addr)
	}}
}

func isFamily(f family) statement {
	name := "ipv4"
	if f == ipv6 {
		name = "ipv6"
	}
	return made{"meta nfproto " + name, func(k *known) {
		k.append(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register(0)})
		k.equal([]byte{byte(f)})
		k.family = f
	}}
}

func isProto(p policy.Protocol) statement {
	name := p.String()
	switch p {
	case policy.ICMPv6:
		name = "ipv6-icmp"
	case igmp:
		name = "igmp"
	case policy.TCP, policy.UDP, policy.ESP, policy.AH, policy.GRE, policy.VRRP, policy.ICMP:
	default: // nft knows the names in /etc/protocols alone
		name = strconv.Itoa(int(p))
	}
	return made{"meta l4proto " + name, func(k *known) { k.needProto(p) }}
}

// igmp is no protocol that a policy can name.
const igmp policy.Protocol = 2

func isInterface(name string) statement {
	return is(interfaceName, fmt.Sprintf("%q", name), nameBytes(name))
}

// The loopback interface has the index 1 in every network namespace (LOOPBACK_IFINDEX),
// which is compared faster than a name.
var (
	isLoopback  = is(interfaceIndex, `"lo"`, binaryutil.NativeEndian.PutUint32(1))
	notLoopback = isNot(interfaceIndex, `"lo"`, binaryutil.NativeEndian.PutUint32(1))
)

// tcpFlags matches the flags that tell a new connection from all else. SYN with
// any of the others opens none (RFC 9293, 3.10.7.2); ECE, CWR, PSH and URG may
// come with it.
func tcpFlags(sign string, op expr.CmpOp, name string, flag byte) statement {
	const fin, syn, rst, ack = 1, 2, 4, 16
	return made{"tcp flags & (fin | syn | rst | ack) " + sign + " " + name, func(k *known) {
		k.needProto(policy.TCP)
		k.append(payload(expr.PayloadBaseTransportHeader, 13, 1)(register(0))...)
		k.append(
			&expr.Bitwise{
				SourceRegister: register(0), DestRegister: register(0), Len: 1,
				Mask: []byte{fin | syn | rst | ack}, Xor: []byte{0},
			},
			&expr.Cmp{Op: op, Register: register(0), Data: []byte{flag}},
		)
	}}
}

var (
	isSYN    = tcpFlags("==", expr.CmpOpEq, "syn", 2)
	isNotSYN = tcpFlags("!=", expr.CmpOpNeq, "syn", 2)
	isACK    = tcpFlags("==", expr.CmpOpEq, "ack", 16) // and nothing else of the four
)

// hasRST matches a packet that resets a connection.
var hasRST = made{"tcp flags & rst == rst", func(k *known) {
	const rst = 4
	k.needProto(policy.TCP)
	k.append(payload(expr.PayloadBaseTransportHeader, 13, 1)(register(0))...)
	k.append(
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 1, Mask: []byte{rst}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: []byte{rst}},
	)
}}

// fib asks the routing table about an address of the packet.
func fib(of string, sign string, op expr.CmpOp, typ string, number uint32) statement {
	return simple("fib "+of+" type "+sign+typ,
		&expr.Fib{Register: register(0), ResultADDRTYPE: true, FlagSADDR: of == "saddr", FlagDADDR: of == "daddr"},
		&expr.Cmp{Op: op, Register: register(0), Data: binaryutil.NativeEndian.PutUint32(number)},
	)
}

var (
	toThisHost    = fib("daddr", "", expr.CmpOpEq, "local", unix.RTN_LOCAL)
	toOthers      = fib("daddr", "!= ", expr.CmpOpNeq, "local", unix.RTN_LOCAL)
	fromNoUnicast = fib("saddr", "!= ", expr.CmpOpNeq, "unicast", unix.RTN_UNICAST)
)

// hasSocket matches a packet that a program waits for, whether the socket is
// transparent or not: asked for any other property, the kernel does not look at
// connections that are half-open or closing.
var hasSocket = simple("socket transparent <= 1",
	&expr.Socket{Key: expr.SocketKeyTransparent, Register: register(0)},
	&expr.Cmp{Op: expr.CmpOpLte, Register: register(0), Data: []byte{1}},
)

// ctBits matches any of some bits of conntrack's.
func ctBits(key expr.CtKey, text string, bits uint32) statement {
	mask := binaryutil.NativeEndian.PutUint32(bits)
	zero := make([]byte, 4)
	return simple(text,
		&expr.Ct{Key: key, Register: register(0)},
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 4, Mask: mask, Xor: zero},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register(0), Data: zero},
	)
}

var (
	isEstablished = ctBits(expr.CtKeySTATE, "ct state established,related", expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
	isInvalid     = ctBits(expr.CtKeySTATE, "ct state invalid", expr.CtStateBitINVALID)
	isUntracked   = ctBits(expr.CtKeySTATE, "ct state untracked", expr.CtStateBitUNTRACKED)
	isConfirmed   = ctBits(expr.CtKeySTATUS, "ct status confirmed", 1<<3) // IPS_CONFIRMED
	isDiverted    = ctBits(expr.CtKeySTATUS, "ct status dnat", 1<<5)      // IPS_DST_NAT
)

// Lookups.

// in matches what a set holds.
func in(s *set, fields ...field) statement {
	return made{texts(fields) + " @" + s.name, func(k *known) {
		k.load(fields)
		k.append(&expr.Lookup{SourceRegister: register(0), SetName: s.name})
	}}
}

func notIn(s *set, fields ...field) statement {
	return made{texts(fields) + " != @" + s.name, func(k *known) {
		k.load(fields)
		k.append(&expr.Lookup{SourceRegister: register(0), SetName: s.name, Invert: true})
	}}
}

// verdict does what a verdict map says; what it does not hold goes on.
func verdict(s *set, fields ...field) statement {
	return made{texts(fields) + " vmap @" + s.name, func(k *known) {
		k.load(fields)
		k.append(&expr.Lookup{SourceRegister: register(0), SetName: s.name, IsDestRegSet: true})
	}}
}
