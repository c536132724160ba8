package preflight

import (
	"cmp"
	"fmt"
	"slices"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/paragraph"
	"postern/internal/policy"
)

// cutOff warns of programs that receive UDP on a port of which the policy says
// nothing. In closed nobody reaches them any more unless they send first; and the
// kernel does not list their flows, as it does TCP connections, so that existing
// ones stall as well.
func (f *facts) cutOff() []Finding {
	if f.machine.Policy.Posture != policy.Closed || f.loaded { // it has happened already
		return nil
	}
	ports := unnamedReceivers(f.machine, f.receivers)
	if len(ports) == 0 {
		return nil
	}
	return []Finding{{
		Kind:     UDPCutOff,
		Severity: Warning,
		Message: fmt.Sprintf("programs on this host receive on %s, which neither allow nor a door names: "+
			"others get through only after this host has sent them something, and a session over a VPN there may be cut off",
			paragraph.List(ports)),
		Hints: []string{"list in allow what others begin; replies to what this host asks pass anyway"},
	}}
}

// unnamedReceivers returns the ports of those that neither allow nor a door names,
// where the policy holds.
func unnamedReceivers(m *automaton.Machine, receivers []host.Receiver) []string {
	p := m.Policy
	var ports []policy.Port
	for _, r := range receivers {
		port := policy.Port{Protocol: policy.UDP, Number: r.Local.Port()}
		switch {
		case host.DHCPClient(port), slices.Contains(ports, port):
		case len(p.Interfaces) > 0 && r.Interface != "" && !slices.Contains(p.Interfaces, r.Interface):
		case slices.ContainsFunc(p.Allow, func(a policy.Allow) bool { return a.Service.Covers(port) }):
		case slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port }):
		default:
			ports = append(ports, port)
		}
	}
	slices.SortFunc(ports, func(a, b policy.Port) int { return cmp.Compare(a.Number, b.Number) })
	var names []string
	for _, port := range ports {
		names = append(names, port.String())
	}
	return names
}
