//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"net/netip"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// Refusals returns how the ports beside the hidden ones are refused, which neither
// the machine's services nor `allow` name: for each protocol and family of services.
func (r *Rules) Refusals(m *automaton.Machine) []Refusal {
	var all []Refusal
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		for _, is6 := range []bool{false, true} {
			if address, ok := hides(m, protocol, is6); ok {
				all = append(all, r.refusal(protocol, idlePorts(m, protocol), address, is6, unmarked(m)))
			}
		}
	}
	return all
}

// hides reports whether the machine hides a service of a protocol in a family, and
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

// idlePorts returns a few ports, all over the range, that the policy does not name.
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

// refusal returns the answer that most of the ports get.
func (r *Rules) refusal(protocol policy.Protocol, ports []policy.Port, address netip.Addr, is6 bool, unmarked mark) Refusal {
	kernel := Refusal{Protocol: protocol, IPv6: is6, Answer: policy.IdleAnswer(protocol)}
	counts := map[Refusal]int{}
	for _, p := range ports {
		sent := newPacket(p, address, is6)
		sent.mark = unmarked
		found := r.refusedBy(sent, kernel)
		if counts[found]++; counts[found] > len(ports)/2 {
			return found
		}
	}
	return kernel
}

// refusedBy sends a packet for a port with nothing behind it through all chains.
func (r *Rules) refusedBy(p packet, kernel Refusal) Refusal {
	refused := kernel
	for _, c := range r.bases {
		if hook := *c.Hooknum; hook != *nft.ChainHookPrerouting && hook != *nft.ChainHookInput || !has(c.Table.Family, p.is6) {
			continue
		}
		switch v := r.walk(c, p); {
		case v.end == diverted: // there is something behind it, then
			return kernel
		case v.end == dropped && !v.excepted && !v.acceptsSome:
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
