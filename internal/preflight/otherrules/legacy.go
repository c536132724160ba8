//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// Before nftables there was iptables, and it is still there as
// iptables-legacy, with rules that nftables does not know of.

// A legacy is the filter table of legacy iptables.
type legacy struct {
	is6                        bool
	dropsInput, dropsForwarded bool // by default
}

func (l legacy) meets(s *automaton.Service, is6 bool) (o Obstacle, port policy.Port, ok bool) {
	o = Obstacle{Kind: DropsUnread, Table: l.table(), Chain: "INPUT", Marked: true}
	port = s.Port
	drops := l.dropsInput
	if s.Forward.IsValid() {
		o.Chain, o.To, drops = "FORWARD", s.Forward.Addr(), l.dropsForwarded
		port.Number = s.Forward.Port()
	}
	return o, port, l.is6 == is6 && drops
}

func (l legacy) table() string {
	if l.is6 {
		return "ip6tables-legacy filter"
	}
	return "iptables-legacy filter"
}

// The parts of struct ipt_getinfo and ipt_entry (ip6t_…) that are needed:
// x_tables' own interface to user space, unchanged since Linux 2.6.
const (
	infoSize      = 84
	infoUnderflow = 32 + 4 + 5*4 // where each hook's default rule begins
	infoBytes     = infoSize - 4
	entriesHeader = 40

	hookInput, hookForward = 1, 2
)

// drops reports whether the default rule at an offset drops: its target says
// minus the verdict, minus one.
func drops(table []byte, at uint32, targetOffset int) bool {
	if int(at)+targetOffset+2 > len(table) {
		return false
	}
	target := int(at) + int(binary.NativeEndian.Uint16(table[int(at)+targetOffset:]))
	const verdict = 32 // after struct xt_entry_target
	return target+verdict+4 <= len(table) && int32(binary.NativeEndian.Uint32(table[target+verdict:])) == -1
}
