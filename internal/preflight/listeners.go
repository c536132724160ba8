package preflight

import (
	"cmp"
	"fmt"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/paragraph"
	"postern/internal/policy"
)

// listeners warns of services that a guard leaves open and `allow` does not list.
// A connection to one is input for the machine, and resets the sender's progress.
func (f *facts) listeners() []Finding {
	m := f.machine
	if m.Policy.Posture != policy.Guard {
		return nil
	}
	var unlisted []string
	ports := slices.Clone(f.listening)
	if _, ok := f.backend.(firewall.Diverted); !ok { // it judges a published port before it is sent on
		for _, p := range f.published {
			if !slices.Contains(ports, p.Port) {
				ports = append(ports, p.Port)
			}
		}
	}
	slices.SortFunc(ports, func(a, b policy.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
	})
	for _, port := range ports {
		switch {
		case port.IsDHCPClient():
		case slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool { return a.Service == policy.Service{} || a.Service.Covers(port) }):
		case slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port }):
		case slices.ContainsFunc(m.Doors, func(d automaton.Door) bool { return slices.Contains(d.Knock.Sequence, port) }):
			// A finding of its own; see knockPorts.
		case m.Policy.IsKeyPort(port): // as well; see keyPort
		default:
			unlisted = append(unlisted, port.String())
		}
	}
	if len(unlisted) == 0 {
		return nil
	}
	return []Finding{{
		Kind:     ServiceUnlisted,
		Severity: Warning,
		Message:  fmt.Sprintf("programs on this host listen on %s, which allow does not list", paragraph.List(unlisted)),
		Hints:    []string{"list what clients use; otherwise connecting there resets that client's knocks"},
	}}
}
