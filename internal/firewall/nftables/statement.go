package nftables

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// A statement is one part of a rule: text is how nft writes it, and emit
// appends what the kernel runs.
type statement interface {
	text() string
	emit(*known)
}

// known is a rule as it grows, with what its statements so far have made sure
// of. nft adds a match of the family or the protocol in front of a field that
// needs it, once a rule; so do we, or its listing would show raw offsets.
type known struct {
	exprs  []expr.Any
	family family
	proto  policy.Protocol
}

func (k *known) append(exprs ...expr.Any) { k.exprs = append(k.exprs, exprs...) }

// equal compares the first register.
func (k *known) equal(value []byte) {
	k.append(&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: value})
}

func (k *known) needFamily(f family) {
	if f != 0 && k.family != f {
		k.append(&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register(0)})
		k.equal([]byte{byte(f)})
		k.family = f
	}
}

func (k *known) needProto(p policy.Protocol) {
	if p != 0 && k.proto != p {
		k.append(&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(0)})
		k.equal([]byte{byte(p)})
		k.proto = p
	}
}

// load puts fields into registers one after the other, from the first one, and
// gives the number of four-byte registers used.
func (k *known) load(fields []field) int {
	for _, f := range fields {
		k.needFamily(f.family)
		k.needProto(f.proto)
	}
	slot := 0
	for _, f := range fields {
		k.append(f.load(register(slot))...)
		slot += (f.bytes + 3) / 4
	}
	return slot
}

func texts(fields []field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.text
	}
	return strings.Join(parts, " . ")
}

// A made statement has its two forms as values: for what is used in one way only.
type made struct {
	written string
	do      func(*known)
}

func (m made) text() string  { return m.written }
func (m made) emit(k *known) { m.do(k) }

// simple is a statement with no needs.
func simple(text string, exprs ...expr.Any) statement {
	return made{text, func(k *known) { k.append(exprs...) }}
}

// Matches.

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
	}
	return made{"meta l4proto " + name, func(k *known) { k.needProto(p) }}
}

// igmp is no protocol that a policy can name.
const igmp policy.Protocol = 2

func isInterface(name string) statement {
	return is(interfaceName, fmt.Sprintf("%q", name), nameBytes(name))
}

var notLoopback = isNot(interfaceName, `"lo"`, nameBytes("lo"))

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

// hasSocket matches a packet that somebody waits for, whether the socket is
// transparent or not: asked for any other property, the kernel does not look at
// connections that are half-open or closing.
var hasSocket = simple("socket transparent <= 1",
	&expr.Socket{Key: expr.SocketKeyTransparent, Register: register(0)},
	&expr.Cmp{Op: expr.CmpOpLte, Register: register(0), Data: []byte{1}},
)

// hasConnection matches a packet that a connection of this host waits for, or a
// listener with an address of its own.
var hasConnection = simple("socket wildcard 0",
	&expr.Socket{Key: expr.SocketKeyWildcard, Register: register(0)},
	&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: []byte{0}},
)

// hasOptions matches an IPv4 packet with options.
var hasOptions = made{"ip hdrlength > 5", func(k *known) {
	k.needFamily(ipv4)
	k.append(payload(expr.PayloadBaseNetworkHeader, 0, 1)(register(0))...)
	k.append(
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 1, Mask: []byte{0xf}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpGt, Register: register(0), Data: []byte{5}},
	)
}}

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

// Carrying.

func (k *known) carry() {
	k.append(&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: register(0)})
}

// carry makes a field what the packet carries.
func carry(f field) statement {
	return made{"meta priority set " + f.text, func(k *known) {
		k.load([]field{f})
		k.carry()
	}}
}

// carryID makes a state or a service what the packet carries; 0 is nothing.
func carryID(id uint32) statement {
	return made{"meta priority set " + idText(id), func(k *known) {
		k.append(&expr.Immediate{Register: register(0), Data: idBytes(id)})
		k.carry()
	}}
}

// carryFrom looks up what the packet is to carry, and matches if it is there.
func carryFrom(s *set, fields ...field) statement {
	return made{"meta priority set " + texts(fields) + " map @" + s.name, func(k *known) {
		k.load(fields)
		k.append(&expr.Lookup{
			SourceRegister: register(0), DestRegister: register(0), IsDestRegSet: true, SetName: s.name,
		})
		k.carry()
	}}
}

// Changes to sets.

// change adds, updates or deletes an element.
type change struct {
	op     string
	set    *set
	key    []field
	data   *field
	expire time.Duration
	limit  *rate
}

func (c change) text() string {
	text := c.op + " @" + c.set.name + " { " + texts(c.key)
	if c.expire > 0 {
		text += " timeout " + durationText(c.expire)
	}
	if c.limit != nil {
		text += " " + c.limit.text()
	}
	if c.data != nil {
		text += " : " + c.data.text
	}
	return text + " }"
}

func (c change) emit(k *known) {
	ops := map[string]uint32{
		"add": unix.NFT_DYNSET_OP_ADD, "update": unix.NFT_DYNSET_OP_UPDATE, "delete": nftDynsetDelete,
	}
	used := k.load(c.key)
	d := &expr.Dynset{SrcRegKey: register(0), SetName: c.set.name, Operation: ops[c.op], Timeout: c.expire}
	if c.data != nil {
		slot := (used + 3) / 4 * 4 // the next 16-byte register, as nft does
		k.append(c.data.load(register(slot))...)
		d.SrcRegData = register(slot)
	}
	if c.limit != nil {
		d.Exprs = []expr.Any{c.limit.expr()}
	}
	k.append(d)
}

// The data of a map's element must be said to delete it, but not be right.

func insert(s *set, expire time.Duration, key ...field) change {
	return change{op: "add", set: s, key: key, expire: expire}
}

func refresh(s *set, expire time.Duration, key ...field) change {
	return change{op: "update", set: s, key: key, expire: expire}
}

func remove(s *set, key ...field) change { return change{op: "delete", set: s, key: key} }

func (c change) with(data field) change { c.data = &data; return c }

func (c change) limited(r rate) change { c.limit = &r; return c }

// durationText writes a time as nft lists it: "1m10s", "500ms".
func durationText(d time.Duration) string {
	var b strings.Builder
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}, {time.Millisecond, "ms"}} {
		if n := d / unit.length; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, unit.name)
			d -= n * unit.length
		}
	}
	return b.String()
}

// A rate matches a number of packets a time; with over, those beyond it.
type rate struct {
	n     uint64
	unit  expr.LimitTime
	burst uint32
	over  bool
}

func (r rate) text() string {
	unit := "second"
	if r.unit == expr.LimitTimeWeek {
		unit = "week"
	}
	over := ""
	if r.over {
		over = "over "
	}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", over, r.n, unit, r.burst)
}

func (r rate) expr() expr.Any {
	return &expr.Limit{Type: expr.LimitTypePkts, Rate: r.n, Unit: r.unit, Burst: r.burst, Over: r.over}
}

func (r rate) emit(k *known) { k.append(r.expr()) }

// Actions.

// logLine writes a line to where the policy wants it.
func logLine(l policy.Log, prefix string) statement {
	line := &expr.Log{Key: 1 << unix.NFTA_LOG_PREFIX, Data: []byte(prefix)}
	text := fmt.Sprintf("log prefix %q", prefix)
	if l.Target == policy.LogNFLOG {
		line.Key |= 1 << unix.NFTA_LOG_GROUP
		line.Group = l.Group
		return simple(fmt.Sprintf("%s group %d", text, l.Group), line)
	}
	line.Key |= 1 << unix.NFTA_LOG_LEVEL
	line.Level = expr.LogLevelInfo
	return simple(text+" level info", line)
}

func count(name string) statement {
	return simple(fmt.Sprintf("counter name %q", name), &expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name})
}

// divertBy is a DNAT to the address and port that a map holds for the fields.
func divertBy(s *set, f family, fields ...field) statement {
	return made{fmt.Sprintf("dnat %s to %s map @%s", f.ip(), texts(fields), s.name), func(k *known) {
		k.load(fields)
		k.append(
			&expr.Lookup{SourceRegister: register(0), DestRegister: register(0), IsDestRegSet: true, SetName: s.name},
			&expr.NAT{
				Type: expr.NATTypeDestNAT, Family: uint32(f),
				RegAddrMin: register(0), RegProtoMin: register(f.bits() / 32),
			},
		)
	}}
}

// Verdicts.

var (
	accept      = simple("accept", &expr.Verdict{Kind: expr.VerdictAccept})
	back        = simple("return", &expr.Verdict{Kind: expr.VerdictReturn})
	drop        = simple("drop", &expr.Verdict{Kind: expr.VerdictDrop})
	masquerade  = simple("masquerade", &expr.Masq{})
	reset       = simple("reject with tcp reset", &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	unreachable = simple("reject with icmpx port-unreachable",
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
)

func goTo(c *chain) statement {
	return simple("goto "+c.name, &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.name})
}

func jump(c *chain) statement {
	return simple("jump "+c.name, &expr.Verdict{Kind: expr.VerdictJump, Chain: c.name})
}

// Elements, in both forms.

// key joins parts of a concatenation, each filled up to four bytes.
type part struct {
	text  string
	bytes []byte
}

func idPart(id uint32) part { return part{idText(id), idBytes(id)} }

func portParts(p policy.Port) []part {
	return []part{{p.Protocol.String(), []byte{byte(p.Protocol)}}, {fmt.Sprint(p.Number), binary.BigEndian.AppendUint16(nil, p.Number)}}
}

func addrPart(a netip.Addr) part { return part{a.String(), a.AsSlice()} }

func elementOf(parts ...part) element {
	var e element
	for i, p := range parts {
		if i > 0 {
			e.text += " . "
		}
		e.text += p.text
		e.key = append(e.key, p.bytes...)
		if len(parts) > 1 {
			for len(e.key)%4 != 0 {
				e.key = append(e.key, 0)
			}
		}
	}
	return e
}

// to makes the element one of a map.
func (e element) to(id uint32) element {
	e.text += " : " + idText(id)
	e.data = idBytes(id)
	return e
}

// toAddrPort makes the element one of a map to an address and a port.
func (e element) toAddrPort(a netip.AddrPort) element {
	to := elementOf(addrPart(a.Addr()), part{fmt.Sprint(a.Port()), portBytes(a.Port())})
	e.text += " : " + to.text
	e.data = to.key
	return e
}

// goingTo and jumpingTo make it one of a verdict map.
func (e element) goingTo(c *chain) element {
	e.text += " : goto " + c.name
	e.verdict = &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.name}
	return e
}

func (e element) jumpingTo(c *chain) element {
	e.text += " : jump " + c.name
	e.verdict = &expr.Verdict{Kind: expr.VerdictJump, Chain: c.name}
	return e
}

// nftDynsetDelete is NFT_DYNSET_OP_DELETE (Linux 5.4).
const nftDynsetDelete = 2
