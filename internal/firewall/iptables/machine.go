package iptables

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// Machine compiles a policy for these rules. What they cannot do is an
// *firewall.InexpressibleError. What they do otherwise than an exact machine is in
// the machine's Parameters:
//
//   - They stand behind connection tracking, so that every packet with the addresses
//     and ports of one that was let in belongs to a known flow.
//   - The how-to's own rules take any packet for an input, know a flow only once it was
//     answered, and bound nothing.
//   - The connections of an `admit: any` grant are not bounded: there is no table
//     that they could fill but the kernel's own, of connections.
func Machine(p *policy.Policy) (*automaton.Machine, error) {
	if found := inexpressible(p); len(found) > 0 {
		return nil, &firewall.InexpressibleError{Backend: name, Diagnostics: found}
	}
	m, err := automaton.Compile(p)
	if err != nil {
		return nil, err
	}
	m.Parameters = automaton.Parameters{
		Inputs: automaton.NewConnections, Known: automaton.Confirmed, Attempts: automaton.FirstKnocks, Counted: automaton.OnlyFirst,
	}
	if isClassic(p) {
		m.Parameters = automaton.Parameters{Inputs: automaton.AnyPacket, Known: automaton.Answered}
	}
	return m, nil
}

// name is what the command line calls this backend.
const name = "iptables"

// inexpressible finds what iptables cannot say.
func inexpressible(p *policy.Policy) []policy.Diagnostic {
	var found []policy.Diagnostic
	whole := func(key string, d time.Duration, at policy.Position) {
		if d%time.Second == 0 {
			return
		}
		found = append(found, p.Diagnose(at, fmt.Sprintf("iptables counts whole seconds, and %s is %s", key, d),
			fmt.Sprintf("write %s, or use the nftables backend", (d+time.Second-1).Truncate(time.Second))))
	}
	for _, name := range p.Interfaces {
		found = append(found, ambiguous(p, name, policy.Position{Line: 1, Column: 1})...)
	}
	for i := range p.Allow {
		found = append(found, ambiguous(p, p.Allow[i].Interface, p.Allow[i].Pos)...)
	}
	for i := range p.Doors {
		d := &p.Doors[i]
		if d.OnClose == policy.OnCloseCut {
			found = append(found, p.Diagnose(d.OnClosePos, "iptables rules end no connections, as on_close: cut asks",
				"remove it, or use the nftables backend"))
		}
		whole("step_timeout", d.Knock.StepTimeout, d.Knock.StepTimeoutPos)
		whole("open_for", d.OpenFor, d.OpenForPos)
	}
	return found
}

// special reports characters that mean something to iptables-restore or to a shell.
func special(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:@", r) || r > unicode.MaxASCII
}

// ambiguous finds names of interfaces that mean something else to iptables.
func ambiguous(p *policy.Policy, name string, at policy.Position) []policy.Diagnostic {
	hint := "rename the interface, or use the nftables backend"
	switch {
	case strings.HasSuffix(name, "+"):
		return []policy.Diagnostic{p.Diagnose(at, fmt.Sprintf("to iptables, interface %q is every one that begins so", name), hint)}
	case strings.IndexFunc(name, special) >= 0:
		return []policy.Diagnostic{p.Diagnose(at, fmt.Sprintf("interface %q is no name that iptables reads as it is", name), hint)}
	}
	return nil
}
