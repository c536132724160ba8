//go:build linux

package otherrules

import (
	"net/netip"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// An Idle tells how most ports with nothing behind them are refused, of one
// protocol in one family.
type Idle struct {
	Table    string // whose chain does it; "" if it is the kernel's own answer
	Chain    string
	Protocol policy.Protocol
	IPv6     bool
	Answer   policy.Answer
}

// Idle looks at the ports beside the hidden ones: those that neither the machine's
// services nor `allow` name. It tells of the protocols and families of services.
func (r *Rules) Idle(m *automaton.Machine) []Idle {
	var all []Idle
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		for _, is6 := range []bool{false, true} {
			if address, ok := hides(m, protocol, is6); ok {
				all = append(all, r.idle(protocol, idlePorts(m, protocol), address, is6))
			}
		}
	}
	return all
}

// hides tells whether the machine hides a service of a protocol in a family, and
// on which address; the zero value: on all.
func hides(m *automaton.Machine, protocol policy.Protocol, is6 bool) (address netip.Addr, ok bool) {
	for i := range m.Services {
		s := &m.Services[i]
		if s.Port.Protocol == protocol && (!s.Address.IsValid() || s.Address.Is6() == is6) {
			return s.Address, true
		}
	}
	return address, false
}

// idlePorts gives a few ports, all over the range, that the policy says nothing of.
func idlePorts(m *automaton.Machine, protocol policy.Protocol) []policy.Port {
	named := func(p policy.Port) bool {
		for i := range m.Services {
			if m.Services[i].Port == p {
				return true
			}
		}
		for _, a := range m.Policy.Allow {
			if a.Service.Covers(p) {
				return true
			}
		}
		return false
	}
	var ports []policy.Port
	const first, apart, tries = 997, 7207, 100
	for n := first; n <= 65535-tries; n += apart {
		for try := range tries {
			p := policy.Port{Protocol: protocol, Number: uint16(n + try)}
			if !named(p) {
				ports = append(ports, p)
				break
			}
		}
	}
	return ports
}

// idle tells what most of the ports meet with.
func (r *Rules) idle(protocol policy.Protocol, ports []policy.Port, address netip.Addr, is6 bool) Idle {
	kernel := Idle{Protocol: protocol, IPv6: is6, Answer: policy.IdleAnswer(protocol)}
	counts := map[Idle]int{}
	for _, p := range ports {
		found := r.refuses(newPacket(p, address, is6), kernel)
		if counts[found]++; counts[found] > len(ports)/2 {
			return found
		}
	}
	return kernel
}

// refuses sends a packet for a port with nothing behind it through all chains.
func (r *Rules) refuses(p packet, kernel Idle) Idle {
	refused := kernel
	for _, c := range r.bases {
		if hook := *c.Hooknum; hook != *nft.ChainHookPrerouting && hook != *nft.ChainHookInput || !has(c.Table.Family, p.is6) {
			continue
		}
		switch v := r.walk(c, p); {
		case v.end == diverted: // there is something behind it, then
			return kernel
		case v.end == dropped && !v.excepted:
			refused.Table, refused.Chain = familyName(c.Table.Family)+" "+c.Table.Name, c.Name
			refused.Answer = v.answer
			return refused
		}
	}
	for _, l := range r.legacy {
		if l.is6 == p.is6 && l.dropsInput {
			refused.Table, refused.Chain, refused.Answer = l.table(), "INPUT", policy.NoAnswer
			return refused
		}
	}
	return kernel
}
