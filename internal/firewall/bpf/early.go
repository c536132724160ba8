package bpf

import (
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// An Early says which SYNs and datagrams are counted before the rules see them, and dropped
// if they cannot matter any more: see early.h.
type Early struct {
	Interfaces []string // by their names; nil: all but loopback
	Trusted    []Trusted
	NamedTCP   Ports // that are not counted
	NamedUDP   Ports
	First      Ports         // of TCP that may be a first knock; SYNs to others are dropped within the budget, too
	FirstLasts time.Duration // how long a first knock of TCP counts that is noted; 0: none is
	Renews     bool          // the same one again is one more
	UDP        bool          // datagrams are counted, too, where the kernel lets the program ask connection tracking
	Source     policy.Source
	Budget     automaton.Budget
	Patience   time.Duration // how long progress may last
	UDPKnocks  bool          // datagrams may be knocks, or keep their source's progress
	EchoKnocks bool          // so may echo requests
}

// Ports has a bit for each port of a protocol.
type Ports [1 << 16 / 64]uint64

func (p *Ports) add(n uint16) { p[n/64] |= 1 << (n % 64) }

func (p *Ports) fill() {
	for i := range p {
		p[i] = ^uint64(0)
	}
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
		UDP: m.Parameters.EarlyUDP,
		// A little more than progress lasts, for a packet that waits on its way to the rules.
		Patience: m.Patience() + time.Second/10,
	}
	for n := range 1 << 16 {
		if !m.Early(policy.Port{Protocol: policy.TCP, Number: uint16(n)}) {
			e.NamedTCP.add(uint16(n))
		}
		if !m.Early(policy.Port{Protocol: policy.UDP, Number: uint16(n)}) {
			e.NamedUDP.add(uint16(n))
		}
	}
	e.First, e.FirstLasts, e.Renews = firstKnocks(m)
	knocks := func(p policy.Port) {
		e.UDPKnocks = e.UDPKnocks || p.Protocol == policy.UDP
		e.EchoKnocks = e.EchoKnocks || p.Protocol == policy.ICMP
	}
	for i := range m.Edges {
		knocks(m.Edges[i].On)
	}
	for i := range m.States {
		for _, on := range m.States[i].Loops { // by which its time begins again
			knocks(on)
		}
	}
	for i := range m.Policy.Allow {
		if a := &m.Policy.Allow[i]; a.Service.Protocol == 0 {
			e.Trusted = append(e.Trusted, Trusted{a.From, a.Interface})
		}
	}
	return e
}

// firstKnocks returns the ports of TCP that may be a first knock, with the decoys. A SYN to any
// other one is dropped in less time than those take, which shows them to who times answers. So
// that is for hosts where no port answers at all, which leaves ARP and neighbour discovery to
// be timed, and where there are decoys. Elsewhere all ports may be one, and also where a wrong
// port costs its source a grant. There is more to say only where first knocks may be noted.
func firstKnocks(m *automaton.Machine) (first Ports, lasts time.Duration, renews bool) {
	var knocks, decoys []uint16
	for i := range m.Edges {
		if e := &m.Edges[i]; e.From == automaton.Root && e.On.Protocol == policy.TCP {
			knocks = append(knocks, e.On.Number)
		}
	}
	for _, d := range m.Decoys() {
		if on := d.Path[0]; on.Protocol == policy.TCP {
			decoys = append(decoys, on.Number)
		}
	}
	if !m.Silent() || len(knocks) > 0 && len(decoys) == 0 {
		first.fill()
		return first, 0, false
	}
	for _, n := range slices.Concat(knocks, decoys) {
		first.add(n)
	}
	return first, m.NotedFor(), m.Renews()
}
