//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/preflight/otherrules"
)

// loaded is the answer of up to programs.
type loaded struct {
	File     string       `json:"file"`
	Backend  string       `json:"backend"`
	With     string       `json:"with,omitempty"` // the program that loaded the rules, and its version
	RuleSet  string       `json:"rule_set"`
	Replaced string       `json:"replaced"`            // "nothing", "same", "altered" (the same, which somebody had changed) or "other"
	TakenOut []string     `json:"taken_out,omitempty"` // other backends, whose rules were loaded
	Doors    []loadedDoor `json:"doors"`
	Warnings []ui.Remark  `json:"warnings"`
}

type loadedDoor struct {
	Name     string   `json:"name"`
	Services []string `json:"services"`
}

// up loads the policy by a backend; nil is the one in use.
func (s *session) up(b firewall.Backend, risk risk) error {
	survey := backends.Look(s.backends)
	if b == nil {
		b = survey.InUse()
	}
	m, err := s.machine(b)
	if err != nil {
		return err
	}
	takeover, err := survey.TakeOver(b)
	if err != nil {
		return err
	}
	if takeover.Unread != nil {
		s.Warn(notInspected(takeover.Unread))
	}
	for _, d := range m.Lint() {
		s.Warn(ui.AboutLine(d))
	}
	if err := forwarding(m); err != nil {
		return err
	}
	s.Warn(absentInterfaces(m.Policy)...)
	port, err := enslavedInterface(m.Policy)
	switch {
	case err != nil:
		return err
	case port != nil && risk == refuseRisk:
		return port.failure()
	case port != nil:
		s.Warn(port.remark())
	}
	s.Warn(neighbours(m, b)...)
	digest := b.Digest(m)
	replaced := replaces(takeover.Before, digest)
	if replaced != "same" { // or it is no news
		s.Warn(cutOff(m)...)
	}
	if out := shutsCallerOut(m); out != nil && replaced != "same" { // or it is too late
		if risk == refuseRisk {
			return wouldShutOut(out)
		}
		s.Warn(doesShutOut(out))
	}
	removed, err := takeover.Apply(m)
	if err != nil {
		return err
	}
	answer := loaded{File: s.file, Backend: b.Name(), RuleSet: digest, Replaced: replaced, TakenOut: removed, Warnings: s.Remarks}
	if d, ok := b.(firewall.Delegate); ok {
		answer.With, _ = d.Program()
	}
	for i := range m.Doors {
		answer.Doors = append(answer.Doors, loadedDoor{m.Doors[i].Name, services(m, &m.Doors[i])})
	}
	if s.JSON {
		return s.Answer(answer)
	}
	s.sayLoaded(answer)
	return nil
}

// replaces tells what a rule set takes the place of.
func replaces(before *firewall.Status, digest string) string {
	switch {
	case !before.Loaded:
		return "nothing"
	case before.Digest != digest:
		return "other"
	case before.Altered:
		return "altered"
	}
	return "same"
}

// forwarding wants this host to forward packets, if a door does.
func forwarding(m *automaton.Machine) error {
	if missing := notForwarding(m); missing != nil {
		return missing.failure()
	}
	return nil
}

// notForwarding gives the first door that cannot work as the host is set.
func notForwarding(m *automaton.Machine) *stuckDoor {
	for i := range m.Doors {
		d := &m.Doors[i]
		if !d.Forward.IsValid() {
			continue
		}
		if missing, ok := host.Forwarding(d.Forward.Addr()); !ok {
			return &stuckDoor{d.Name, d.Forward, missing}
		}
	}
	return nil
}

// neighbours looks for other rules that get in the way of the doors, or that make
// what is hidden show.
func neighbours(m *automaton.Machine, b firewall.Backend) []ui.Remark {
	rules, err := otherrules.Read()
	if err != nil {
		return []ui.Remark{{Message: err.Error()}}
	}
	var remarks []ui.Remark
	for _, o := range rules.Obstacles(m) {
		diverts := o.Kind == otherrules.Diverts || o.Kind == otherrules.MayDivert
		switch late, ok := b.(firewall.Diverted); {
		case !diverts || !ok:
			remarks = append(remarks, aboutObstacle(o))
		case late.Diverts(m, o.Table):
			remarks = append(remarks, aboutEscape(o))
		}
	}
	return append(remarks, conspicuous(m.Policy, rules.Idle(m))...)
}
