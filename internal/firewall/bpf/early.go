package bpf

import (
	"net/netip"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// An Early says which SYNs are counted before the rules see them, and dropped if they
// cannot matter any more: see early.h.
type Early struct {
	Interfaces []string // by their names; nil: all but loopback
	Trusted    []Trusted
	Named      [1 << 16 / 64]uint64 // the TCP ports that are not counted, a bit each
	Source     policy.Source
	Budget     automaton.Budget
	Patience   time.Duration // how long progress may last
	UDP, Echo  bool          // such packets may be knocks
}

// A Trusted sender or interface needs no knock, whatever it sends.
type Trusted struct {
	From      netip.Prefix // the zero value: anybody
	Interface string       // "": any
}

// NewEarly returns what may be counted early of a machine's inputs, or nil if nothing may.
func NewEarly(m *automaton.Machine) *Early {
	if !m.Parameters.Early {
		return nil
	}
	e := &Early{
		Interfaces: m.Policy.Interfaces, Source: m.Policy.Source, Budget: m.Parameters.Attempts,
		// A little more than progress lasts, for a packet that waits on its way to the rules.
		Patience: m.Patience() + time.Second/10,
	}
	for n := range 1 << 16 {
		if !m.Early(policy.Port{Protocol: policy.TCP, Number: uint16(n)}) {
			e.Named[n/64] |= 1 << (n % 64)
		}
	}
	for i := range m.Edges {
		e.UDP = e.UDP || m.Edges[i].On.Protocol == policy.UDP
		e.Echo = e.Echo || m.Edges[i].On.Protocol == policy.ICMP
	}
	for i := range m.Policy.Allow {
		if a := &m.Policy.Allow[i]; a.Service.Protocol == 0 {
			e.Trusted = append(e.Trusted, Trusted{a.From, a.Interface})
		}
	}
	return e
}
