//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"slices"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/policy"
)

// looksAround tells whether check looks at this host unless told otherwise.
const looksAround = true

// lookAround finds what on this host the policy does not fit.
func (s *session) lookAround(m *automaton.Machine, b firewall.Backend) {
	s.lookAtHost(m)
	if a, ok := b.(firewall.Adviser); ok {
		s.Warn(advice(a)...)
	}
}

func (s *session) lookAtHost(m *automaton.Machine) {
	s.Warn(absentInterfaces(m.Policy)...)
	switch port, err := enslavedInterface(m.Policy); {
	case err != nil:
		s.Warn(ui.Remark{Message: err.Error()})
	case port != nil:
		s.Warn(port.remark())
	}
	if stuck := notForwarding(m); stuck != nil {
		s.Warn(stuck.remark())
	}
	listening, err := host.Listening()
	if err != nil {
		s.Warn(ui.Remark{Message: err.Error()})
		return
	}
	knocks := map[policy.Port]bool{}
	for i := range m.Doors {
		d := &m.Doors[i]
		for n, port := range d.Knock.Sequence {
			if !knocks[port] && slices.Contains(listening, port) {
				s.Warn(ui.AboutLine(m.Policy.Diagnose(d.Knock.SequencePos[n], sayKnockInUse(port), hintKnockInUse)))
			}
			knocks[port] = true
		}
	}
	if m.Policy.Posture != policy.Guard {
		return
	}
	var unlisted []string
	for _, port := range listening {
		known := slices.ContainsFunc(m.Policy.Allow, func(a policy.Allow) bool {
			return a.Service == policy.Service{} || a.Service.Covers(port)
		})
		known = known || slices.ContainsFunc(m.Services, func(s automaton.Service) bool { return s.Port == port })
		if !known && !knocks[port] && !dhcpClient(port) {
			unlisted = append(unlisted, port.String())
		}
	}
	if len(unlisted) > 0 {
		s.Warn(aboutUnlisted(unlisted))
	}
}

// advice returns what the backend itself knows of this host.
func advice(b firewall.Adviser) []ui.Remark {
	all, err := b.Advise()
	if err != nil {
		f := ui.Explain(err)
		return []ui.Remark{{Message: f.Message, Hints: f.Hints}}
	}
	var remarks []ui.Remark
	for _, a := range all {
		remarks = append(remarks, ui.Remark{Message: a.Message, Hints: a.Hints})
	}
	return remarks
}

// dhcpClient tells a port that only answers come to, from servers that were asked.
func dhcpClient(p policy.Port) bool {
	return p.Protocol == policy.UDP && (p.Number == 68 || p.Number == 546)
}
