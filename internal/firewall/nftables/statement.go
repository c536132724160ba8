//go:build linux

package nftables

import (
	"fmt"
	"strings"

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
// returns the number of four-byte registers used.
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

// carryID makes a state or a grant what the packet carries; 0 is nothing.
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

// divertBy is a DNAT to the address and port that a map holds for the fields. nft
// 0.9 wants to be told that they are both; nft 1.0 leaves that out of its listing.
func divertBy(s *set, f family, fields ...field) statement {
	return made{fmt.Sprintf("dnat %s addr . port to %s map @%s", f.ip(), texts(fields), s.name), func(k *known) {
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
	returns     = simple("return", &expr.Verdict{Kind: expr.VerdictReturn})
	drop        = simple("drop", &expr.Verdict{Kind: expr.VerdictDrop})
	masquerade  = simple("masquerade", &expr.Masq{})
	reset       = simple("reject with tcp reset", &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	unreachable = simple("reject with icmpx type port-unreachable", // nft 0.9 needs the word "type"
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
)

func goTo(c *chain) statement {
	return simple("goto "+c.name, &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.name})
}

func jump(c *chain) statement {
	return simple("jump "+c.name, &expr.Verdict{Kind: expr.VerdictJump, Chain: c.name})
}
