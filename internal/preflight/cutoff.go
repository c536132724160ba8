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

// closes reports whether loading the policy would cut anything off: in closed, unless
// it has happened already.
func (f *facts) closes() bool { return f.machine.Policy.Posture == policy.Closed && !f.loaded }

// udpCutOff warns of programs that receive UDP on a port of which the policy says
// nothing. In closed nobody reaches them any more unless they send first; and the
// kernel does not list their flows, as it does TCP connections, so that existing
// ones stall as well.
func (f *facts) udpCutOff() []Finding {
	if !f.closes() {
		return nil
	}
	ports := unnamed(f.machine, policy.UDP, f.receivers)
	if len(ports) == 0 {
		return nil
	}
	return []Finding{{
		Kind:     UDPCutOff,
		Severity: Warning,
		Message: fmt.Sprintf("programs on this host receive on %s, which neither allow nor a door names: "+
			"others get through only after this host has sent them something, and a session over a VPN there may be cut off",
			portNames(ports)),
		Hints: []string{"list in allow what others begin; replies to what this host asks pass anyway"},
	}}
}

// tcpCutOff warns of programs that others could connect to until now. Where allow lets
// everything in from somewhere, that may be all who are meant.
func (f *facts) tcpCutOff() []Finding {
	if !f.closes() {
		return nil
	}
	m := f.machine
	ports := slices.DeleteFunc(unnamed(m, policy.TCP, f.acceptors), func(p policy.Port) bool {
		return f.isPublished(p) || slices.ContainsFunc(m.Doors, func(d automaton.Door) bool { return slices.Contains(d.Knock.Sequence, p) })
	}) // these have findings of their own; see publishedPorts and knockPorts
	if len(ports) == 0 {
		return nil
	}
	found := Finding{
		Kind:     TCPCutOff,
		Severity: Warning,
		Message: fmt.Sprintf("programs on this host listen on %s, which neither allow nor a door names: "+
			"nobody can connect to them any more, and connections that are open go on", portNames(ports)),
		Hints: []string{"list in allow what others use, or give it a door"},
	}
	if slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool { return a.Service == policy.Service{} }) {
		found.Severity = Note
		found.Message = fmt.Sprintf("programs on this host listen on %s, which neither allow nor a door names: "+
			"only those connect to them whom allow lets in everywhere", portNames(ports))
	}
	return []Finding{found}
}

// unnamed returns the ports of those that neither allow nor a door names, where the
// policy holds.
func unnamed(m *automaton.Machine, protocol policy.Protocol, receivers []host.Receiver) []policy.Port {
	var ports []policy.Port
	for _, r := range receivers {
		port := policy.Port{Protocol: protocol, Number: r.Local.Port()}
		switch {
		case port.IsDHCPClient(), slices.Contains(ports, port):
		case !governs(m.Policy, r.Interface):
		case names(m.Policy, port):
		case slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port }):
		default:
			ports = append(ports, port)
		}
	}
	slices.SortFunc(ports, func(a, b policy.Port) int { return cmp.Compare(a.Number, b.Number) })
	return ports
}

// governs reports whether the policy holds for packets of an interface; "" is one that
// is not known.
func governs(p *policy.Policy, name string) bool {
	return len(p.Interfaces) == 0 || name == "" || slices.Contains(p.Interfaces, name)
}

// names reports whether an entry of allow is about the port, for anyone.
func names(p *policy.Policy, port policy.Port) bool {
	return slices.ContainsFunc(p.Allow, func(a policy.Allow) bool { return a.Service.Covers(port) })
}

func portNames(ports []policy.Port) string {
	var names []string
	for _, p := range ports {
		names = append(names, p.String())
	}
	return paragraph.List(names)
}
