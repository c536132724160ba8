//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"bytes"
	"encoding/binary"
	"slices"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"postern/internal/policy"
)

// An answer is what a condition says of the packet.
type answer int

const (
	no answer = iota
	yes
	unknown
)

func (a answer) not() answer {
	switch a {
	case no:
		return yes
	case yes:
		return no
	}
	return unknown
}

// both is yes if both are.
func both(a, b answer) answer {
	switch {
	case a == no || b == no:
		return no
	case a == unknown || b == unknown:
		return unknown
	}
	return yes
}

func truth(is bool) answer {
	if is {
		return yes
	}
	return no
}

// compare answers a comparison with constants.
func (r *registers) compare(e *expr.Cmp) answer {
	value, known := r.get(e.Register, len(e.Data))
	if len(value) < len(e.Data) {
		return unknown
	}
	// lo is the first interface of every network namespace.
	isLo := slices.Equal(bytes.TrimRight(e.Data, "\x00"), []byte("lo")) || slices.Equal(e.Data, binary.NativeEndian.AppendUint32(nil, 1))
	if r.notLoopback && isLo {
		return truth(e.Op == expr.CmpOpNeq)
	}
	all := isKnown(known)
	differs := !agrees(e.Data, value, known)
	switch order := bytes.Compare(value, e.Data); {
	case e.Op == expr.CmpOpEq && differs:
		return no
	case e.Op == expr.CmpOpNeq && differs:
		return yes
	case !all:
		return unknown
	case e.Op == expr.CmpOpEq:
		return truth(order == 0)
	case e.Op == expr.CmpOpNeq:
		return truth(order != 0)
	case e.Op == expr.CmpOpLt:
		return truth(order < 0)
	case e.Op == expr.CmpOpLte:
		return truth(order <= 0)
	case e.Op == expr.CmpOpGt:
		return truth(order > 0)
	default:
		return truth(order >= 0)
	}
}

func (r *registers) within(e *expr.Range) answer {
	value, known := r.get(e.Register, len(e.FromData))
	if !isKnown(known) || len(value) < len(e.FromData) {
		return unknown
	}
	a := truth(bytes.Compare(value, e.FromData) >= 0 && bytes.Compare(value, e.ToData) <= 0)
	if e.Op == expr.CmpOpNeq {
		return a.not()
	}
	return a
}

// isKnown reports whether all bits are.
func isKnown(known []byte) bool {
	return !slices.ContainsFunc(known, func(bits byte) bool { return bits != whole })
}

// mask does a bitwise expression: a bit that the mask clears is known whatever it
// was.
func (r *registers) mask(e *expr.Bitwise) {
	value, known := r.get(e.SourceRegister, int(e.Len))
	if len(e.Mask) != len(value) || len(e.Xor) != len(value) { // a shift, or something newer
		r.unknown(e.DestRegister, int(e.Len))
		return
	}
	result, certain := make([]byte, len(value)), slices.Clone(known)
	field := r.field[place(e.SourceRegister)]
	sender := slices.Clone(r.sender[place(e.SourceRegister):][:len(value)])
	for i := range value {
		result[i] = value[i]&e.Mask[i] ^ e.Xor[i]
		certain[i] = known[i] | ^e.Mask[i]
	}
	r.put(e.DestRegister, result)
	copy(r.known[place(e.DestRegister):], certain)
	copy(r.sender[place(e.DestRegister):], sender)
	if field != notSender {
		for i := range sender {
			r.field[place(e.DestRegister)+i] = field
		}
		if r.masks == nil {
			r.masks = map[int][]byte{}
		}
		r.masks[place(e.DestRegister)] = e.Mask
	}
}

// all returns the elements, as far as they could be read.
func (s *set) all() []nft.SetElement {
	if s == nil {
		return nil
	}
	return s.elements
}

// find looks the registers up in a set.
func (s *set) find(r *registers, register uint32) (element *nft.SetElement, a answer) {
	if s == nil {
		return nil, unknown
	}
	if len(s.elements) == 0 {
		return nil, no
	}
	value, known := r.get(register, len(s.elements[0].Key))
	if !isKnown(known) {
		// Whatever the rest is: does any element agree on what is known?
		for i := range s.elements {
			if e := &s.elements[i]; s.interval || agrees(e.Key, value, known) {
				return nil, unknown
			}
		}
		return nil, no
	}
	var below *nft.SetElement // the start, or end, of an interval nearest below
	for i := range s.elements {
		e := &s.elements[i]
		if len(e.Key) != len(value) {
			continue
		}
		order := bytes.Compare(e.Key, value)
		switch {
		case len(e.KeyEnd) > 0: // an interval in several dimensions
			if inside(e.Key, e.KeyEnd, value) {
				return e, yes
			}
		case order == 0 && !e.IntervalEnd:
			return e, yes
		case s.interval && order <= 0 && (below == nil || bytes.Compare(e.Key, below.Key) > 0):
			below = e
		}
	}
	if below != nil && !below.IntervalEnd {
		return below, yes
	}
	return nil, no
}

// agrees reports whether a key is the value as far as that is known.
func agrees(key, value, known []byte) bool {
	for i := range value {
		if i < len(key) && (key[i]^value[i])&known[i] != 0 {
			return false
		}
	}
	return true
}

// inside reports whether every part of a concatenation, a word each, is within
// bounds. (An address of 16 bytes is four of them, which is near enough.)
func inside(low, high, value []byte) bool {
	for i := 0; i+4 <= len(value) && i+4 <= len(high); i += 4 {
		if bytes.Compare(value[i:i+4], low[i:i+4]) < 0 || bytes.Compare(value[i:i+4], high[i:i+4]) > 0 {
			return false
		}
	}
	return true
}

// extension answers for a match of iptables' own.
func (p *packet) extension(r *registers, e *expr.Match) answer {
	const top = 65535
	switch info := e.Info.(type) {
	case *xt.Comment:
		return yes
	case *xt.Tcp:
		if p.port.Protocol != policy.TCP {
			return no
		}
		r.named = r.named || info.DstPorts != [2]uint16{0, top}
		a := truth(info.DstPorts[0] <= p.port.Number && p.port.Number <= info.DstPorts[1])
		if info.InvFlags&xt.TcpInvDestPorts != 0 {
			a = a.not()
		}
		flags := truth(tcpSYN&info.FlagsMask == info.FlagsCmp)
		if info.InvFlags&xt.TcpInvFlags != 0 {
			flags = flags.not()
		}
		if a == yes {
			a = flags
		}
		if a == yes && (info.SrcPorts != [2]uint16{0, top} || info.Option != 0) {
			a = unknown
		}
		return a
	case *xt.Udp:
		if p.port.Protocol != policy.UDP {
			return no
		}
		r.named = r.named || info.DstPorts != [2]uint16{0, top}
		a := truth(info.DstPorts[0] <= p.port.Number && p.port.Number <= info.DstPorts[1])
		if info.InvFlags&xt.UdpInvDestPorts != 0 {
			a = a.not()
		}
		if a == yes && info.SrcPorts != [2]uint16{0, top} {
			a = unknown
		}
		return a
	case *xt.ConntrackMtinfo1:
		return p.conntrack(&info.ConntrackMtinfoBase, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return p.conntrack(&info.ConntrackMtinfoBase, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return p.conntrack(&info.ConntrackMtinfoBase, info.StateMask)
	case *xt.AddrType:
		return both(p.addressType(xt.AddrTypeFlags(info.Source), info.InvertSource, unicast),
			p.addressType(xt.AddrTypeFlags(info.Dest), info.InvertDest, p.to()))
	case *xt.AddrTypeV1:
		const invertSource, invertDest, onInterface = 1, 2, 4 | 8 // XT_ADDRTYPE_INVERT_SOURCE, …
		if info.Flags&onInterface != 0 {
			return unknown
		}
		return both(p.addressType(xt.AddrTypeFlags(info.Source), info.Flags&invertSource != 0, unicast),
			p.addressType(xt.AddrTypeFlags(info.Dest), info.Flags&invertDest != 0, p.to()))
	case *xt.Unknown:
		switch e.Name {
		case "multiport":
			return p.multiport(r, *info)
		case "recent":
			return recent(*info)
		case "mark", "connmark":
			return p.mark.match(*info)
		}
	}
	return unknown
}

// The kinds of addresses that `-m addrtype` distinguishes: a bit for each of the
// kernel's numbers.
const (
	unicast xt.AddrTypeFlags = 1 << addrTypeOther
	local   xt.AddrTypeFlags = 1 << addrTypeLocal
)

// to is the kind of address that the packet goes to.
func (p *packet) to() xt.AddrTypeFlags {
	if p.forwarded {
		return unicast
	}
	return local
}

// addressType answers one half of `-m addrtype`; none asks for nothing.
func (p *packet) addressType(among xt.AddrTypeFlags, inverted bool, is xt.AddrTypeFlags) answer {
	if among == 0 {
		return yes
	}
	return truth((among&is != 0) != inverted)
}

// conntrack answers `-m conntrack --ctstate`; its other questions are unknown.
func (p *packet) conntrack(info *xt.ConntrackMtinfoBase, states uint16) answer {
	if info.MatchFlags&^uint16(xt.ConntrackState|xt.ConntrackStateAlias) != 0 {
		return unknown
	}
	const dnat = 1 << 7 // XT_CONNTRACK_STATE_DNAT
	a := truth(states&stateNew != 0 || p.forwarded && states&dnat != 0)
	if info.InvertFlags&uint16(xt.ConntrackState) != 0 {
		return a.not()
	}
	return a
}

// recent answers `-m recent`, by struct xt_recent_mtinfo: two numbers, what is done,
// inverted or not. The packet's sender is on nobody's list. So another knocker's rules
// count as what they are: they let in who knocks at *their* ports.
func recent(info []byte) answer {
	const do, inverted, set = 8, 9, 1 << 1 // XT_RECENT_SET
	if len(info) <= inverted {
		return unknown
	}
	return truth((info[do]&set != 0) != (info[inverted] != 0))
}

// multiport answers `-m multiport`, by struct xt_multiport_v1: flags, a count,
// fifteen ports, fifteen marks of the ports that begin a range, inverted or not.
func (p *packet) multiport(r *registers, info []byte) answer {
	const ports = 15
	if len(info) < 2+3*ports+1 || info[0] != 1 { // not of destination ports alone
		return unknown
	}
	r.named = true
	number := func(i int) uint16 { return binary.NativeEndian.Uint16(info[2+2*i:]) }
	found := false
	for i := 0; i < min(int(info[1]), ports); i++ {
		low, high := number(i), number(i)
		if info[2+2*ports+i] != 0 && i+1 < ports {
			i++
			high = number(i)
		}
		found = found || low <= p.port.Number && p.port.Number <= high
	}
	a := truth(found)
	if info[2+3*ports] != 0 {
		return a.not()
	}
	return a
}

// isReject reports whether a target is one of iptables' own that ends a packet.
func isReject(name string) bool { return name == "REJECT" || name == "DROP" || name == "TARPIT" }

// isDivert reports whether it sends the packet elsewhere.
func isDivert(name string) bool { return name == "DNAT" || name == "REDIRECT" }
