package preflight

import (
	"fmt"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// Packets to a published port are sent on to a container before the input chain. Other
// firewalls judge them in vain there; Postern does before they are sent on. So a door
// hides a published port, and closed blocks it, whether or not a program on this host
// listens on it, as Docker's proxy does.

// publishers are the programs that publish ports of containers.
var publishers = map[string]bool{"docker": true, "podman": true, "kubernetes": true}

// mostPublished is how many ports a finding names.
const mostPublished = 8

// publishedPorts says what becomes of published ports: those that closed blocks; those
// that a guard leaves open, past other firewalls; and those where a knock leads to this
// host itself instead of the container.
func (f *facts) publishedPorts() []Finding {
	var cutOff, open []otherrules.Published
	var found []Finding
	m := f.machine
	for _, p := range f.published {
		door := slices.IndexFunc(m.Doors, func(d automaton.Door) bool { return slices.Contains(d.Door.Services, p.Port) })
		switch {
		case door >= 0:
			found = append(found, f.staysHere(p, &m.Doors[door])...)
		case slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool { return a.Service == policy.Service{} || a.Service.Covers(p.Port) }):
		case m.Policy.Posture == policy.Closed:
			cutOff = append(cutOff, p)
		case publishers[p.Manager]:
			open = append(open, p)
		}
	}
	for _, group := range byTable(cutOff) {
		if !f.closes() {
			break
		}
		found = append(found, Finding{
			Kind:     PublishedCutOff,
			Severity: Warning,
			Message: fmt.Sprintf("%s, which neither allow nor a door names: nobody can connect to it any more",
				publishes(group)),
			Hints: []string{"list in allow what others use, give it a door, or write the outside's interfaces"},
			Where: Place{Table: group[0].Table, Chain: group[0].Chain},
		})
	}
	for _, group := range byTable(open) {
		found = append(found, Finding{
			Kind:     PublishedPort,
			Severity: Note,
			Message:  fmt.Sprintf("%s, which no door hides: it stays open, past what other firewalls say of this host's ports", publishes(group)),
			Hints:    []string{fmt.Sprintf("to hide it, give it a door with service: %s", group[0].Port)},
			Where:    Place{Table: group[0].Table, Chain: group[0].Chain},
		})
	}
	return found
}

// staysHere warns of a door for a published port with a backend that keeps what it
// hides from being sent on.
func (f *facts) staysHere(p otherrules.Published, d *automaton.Door) []Finding {
	late, ok := f.backend.(firewall.Diverted)
	if !ok || d.Forward.IsValid() || late.Diverts(f.machine, p.Table) {
		return nil
	}
	found := Finding{Kind: PublishedPort, Severity: Warning, Where: Place{Table: p.Table, Chain: p.Chain}}
	what := publishes([]otherrules.Published{p})
	if slices.Contains(f.listening, p.Port) {
		found.Severity = Note
		found.Message = fmt.Sprintf("%s: with the %s backend a knock leads to what listens on this host itself, Docker's proxy say", what, f.backend.Name())
		return []Finding{found}
	}
	found.Message = fmt.Sprintf("%s: with the %s backend a knock leads to this host itself, where nothing listens on that port", what, f.backend.Name())
	found.Hints = []string{"use the nftables backend"}
	if to := p.To; to.IsValid() && to.Port() != 0 {
		found.Hints = []string{fmt.Sprintf("add to door %s: \"forward: %s\" (the container must keep that address), or use the nftables backend", d.Name, to)}
	}
	return []Finding{found}
}

// publishes names the ports that one rule set sends on.
func publishes(all []otherrules.Published) string {
	var names []string
	for i, p := range all {
		if i == mostPublished && len(all) > mostPublished+1 {
			names = append(names, fmt.Sprintf("%d more", len(all)-i))
			break
		}
		names = append(names, p.Port.String())
	}
	if who := all[0].Manager; publishers[who] {
		return fmt.Sprintf("%s publishes %s (table %s, chain %s)", who, paragraph.List(names), all[0].Table, all[0].Chain)
	}
	return fmt.Sprintf("table %s, chain %s sends on %s", all[0].Table, all[0].Chain, paragraph.List(names))
}

// byTable groups ports by the chain that sends them on.
func byTable(all []otherrules.Published) [][]otherrules.Published {
	var groups [][]otherrules.Published
	for _, p := range all {
		i := slices.IndexFunc(groups, func(g []otherrules.Published) bool {
			return g[0].Table == p.Table && g[0].Chain == p.Chain && g[0].Manager == p.Manager
		})
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], p)
	}
	return groups
}

func (f *facts) isPublished(port policy.Port) bool {
	return slices.ContainsFunc(f.published, func(p otherrules.Published) bool { return p.Port == port })
}
