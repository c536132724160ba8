//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// A mark is what is known of a packet's mark, and of its connection's: the bits that
// a policy sets, where a door has admitted it, and that others leave alone otherwise.
type mark struct {
	bits, known uint32
}

// unmarked is the mark of a packet that no door has admitted.
func unmarked(m *automaton.Machine) mark { return mark{known: uint32(m.Policy.Admitted.Mark)} }

// admitted is the mark of a packet that a door has admitted.
func admitted(m *automaton.Machine) mark {
	bits := uint32(m.Policy.Admitted.Mark)
	return mark{bits, bits}
}

// marks reports whether the backend has marked such a packet before it comes to a base
// chain. Until then nothing is known of its mark.
func marks(b firewall.Backend, c *chain) bool {
	hook := firewall.Hook{Table: familyName(c.Table.Family) + " " + c.Table.Name, Priority: priority(c)}
	switch *c.Hooknum {
	case *nft.ChainHookPrerouting:
		hook.Name = "prerouting"
	case *nft.ChainHookInput:
		hook.Name = "input"
	case *nft.ChainHookForward:
		hook.Name = "forward"
	}
	marker, ok := b.(firewall.Marker)
	return ok && marker.Marks(hook)
}

// load puts the mark into a register.
func (m mark) load(r *registers, register uint32) {
	r.put(register, binary.NativeEndian.AppendUint32(nil, m.bits))
	copy(r.known[place(register):], binary.NativeEndian.AppendUint32(nil, m.known))
}

// match answers `-m mark` and `-m connmark`, by struct xt_mark_mtinfo1: the value, the
// bits that are compared with it, inverted or not.
func (m mark) match(info []byte) answer {
	if len(info) < 9 {
		return unknown
	}
	value, mask := binary.NativeEndian.Uint32(info), binary.NativeEndian.Uint32(info[4:])
	a := yes
	switch {
	case (m.bits^value)&mask&m.known != 0 || value&^mask != 0:
		a = no
	case mask&^m.known != 0:
		a = unknown
	}
	if info[8] != 0 {
		return a.not()
	}
	return a
}
