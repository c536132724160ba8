//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"slices"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// Openings returns the rule sets that refuse the ports which they do not list, and
// accept hidden ones from everyone, whether a door has admitted them or not. Only
// Postern's own rules stand before those. (On a host whose rules refuse nothing, every
// port is as open, and nobody expects otherwise.)
func (r *Rules) Openings(m *automaton.Machine) []Opening {
	var found []Opening
	for i := range m.Services {
		s := &m.Services[i]
		if s.Forward.IsValid() { // nothing sends packets there without Postern
			continue
		}
		for _, is6 := range []bool{false, true} {
			if s.Address.IsValid() && s.Address.Is6() != is6 {
				continue
			}
			idle, c := r.refusal(s.Port.Protocol, idlePorts(m, s.Port.Protocol), s.Address, is6, unmarked(m)), (*chain)(nil)
			for _, base := range r.bases {
				if familyName(base.Table.Family)+" "+base.Table.Name == idle.Table && base.Name == idle.Chain {
					c = base
				}
			}
			if c == nil || !r.open(m, s, is6) {
				continue
			}
			o := Opening{Table: idle.Table, Chain: idle.Chain, Manager: r.manager(c), Ports: []policy.Port{s.Port}}
			at := slices.IndexFunc(found, func(f Opening) bool { return f.Table == o.Table && f.Chain == o.Chain })
			switch {
			case at < 0:
				found = append(found, o)
			case !slices.Contains(found[at].Ports, s.Port):
				found[at].Ports = append(found[at].Ports, s.Port)
			}
		}
	}
	return found
}

// open reports whether anyone reaches a service, on an interface where it is hidden,
// without having been admitted.
func (r *Rules) open(m *automaton.Machine, s *automaton.Service, is6 bool) bool {
	names := m.Policy.Interfaces
	if len(names) == 0 {
		names = []string{""}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		p := newPacket(s.Port, s.Address, is6).from(sender{name: name, index: r.indices[name]})
		p.mark = unmarked(m)
		for _, c := range r.bases {
			if hook := *c.Hooknum; hook != *nft.ChainHookPrerouting && hook != *nft.ChainHookInput || !has(c.Table.Family, is6) {
				continue
			}
			v := r.walk(c, p)
			if v.end == diverted || v.end == dropped && !v.excepted || v.dropsMost {
				return false
			}
		}
		return !slices.ContainsFunc(r.legacy, func(l legacy) bool { return l.is6 == is6 && l.dropsInput })
	})
}
