//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"slices"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/host"
	"postern/internal/policy"
)

// cutOff warns of programs on this host that receive UDP on a port of which the
// policy says nothing. In closed nobody reaches them any more unless they speak
// first; and the kernel does not tell of their flows, as it does of TCP connections,
// so that those that are there stall as well.
func cutOff(m *automaton.Machine) []ui.Remark {
	if m.Policy.Posture != policy.Closed {
		return nil
	}
	receivers, err := host.Receiving()
	if err != nil {
		return []ui.Remark{{Message: err.Error()}}
	}
	masters, err := host.Masters()
	if err != nil {
		return []ui.Remark{{Message: err.Error()}}
	}
	through := func(r host.Receiver) string {
		name := r.Interface
		if name == "" && !r.Local.Addr().IsUnspecified() {
			name, _ = host.Interface(r.Local.Addr().WithZone(""))
		}
		if masters[name] != "" {
			return masters[name]
		}
		return name
	}
	if ports := unnamed(m, receivers, through); len(ports) > 0 {
		return []ui.Remark{aboutCutOff(ports)}
	}
	return nil
}

// unnamed gives the ports of those that neither allow nor a door names, where the
// policy holds; through tells the interface that a receiver's packets come in by, ""
// for any.
func unnamed(m *automaton.Machine, receivers []host.Receiver, through func(host.Receiver) string) []string {
	p := m.Policy
	found := map[policy.Port]bool{}
	for _, r := range receivers {
		port := policy.Port{Protocol: policy.UDP, Number: r.Local.Port()}
		name := through(r)
		switch {
		case dhcpClient(port):
		case len(p.Interfaces) > 0 && name != "" && !slices.Contains(p.Interfaces, name):
		case slices.ContainsFunc(p.Allow, func(a policy.Allow) bool { return a.Service.Covers(port) }):
		case slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port }):
		default:
			found[port] = true
		}
	}
	var ports []policy.Port
	for port := range found {
		ports = append(ports, port)
	}
	slices.SortFunc(ports, func(a, b policy.Port) int { return int(a.Number) - int(b.Number) })
	var names []string
	for _, port := range ports {
		names = append(names, port.String())
	}
	return names
}
