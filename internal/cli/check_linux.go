//go:build !arm

package cli

import (
	"postern/internal/cli/ui"

	"errors"
	"io/fs"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall/iptables"
	"postern/internal/host"
	"postern/internal/policy"
)

// looksAround tells whether check looks at this host unless told otherwise.
const looksAround = true

// lookAround finds what on this host the policy does not fit.
func (s *session) lookAround(m *automaton.Machine, b backend) {
	s.lookAtHost(m)
	if tables, ok := b.(iptables.Backend); ok {
		s.Warn(memory(tables)...)
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

// enough is a number of senders that is no cause for a warning: it takes a flood of
// a million packets a second to drive one out in the time between two knocks.
const enough = 65536

// memory tells how many forged knocks it takes to have xt_recent forget a client.
func memory(b iptables.Backend) []ui.Remark {
	if _, err := b.Version(); err != nil {
		f := ui.Explain(err)
		return []ui.Remark{{Message: f.Message, Hints: f.Hints}}
	}
	c, err := iptables.ReadCapacity()
	switch {
	case errors.Is(err, fs.ErrPermission):
		return []ui.Remark{unknownCapacity()}
	case err != nil:
		return []ui.Remark{{Message: err.Error()}}
	case c.Senders >= enough:
		return nil
	}
	return []ui.Remark{aboutCapacity(c)}
}

// dhcpClient tells a port that only answers come to, from servers that were asked.
func dhcpClient(p policy.Port) bool {
	return p.Protocol == policy.UDP && (p.Number == 68 || p.Number == 546)
}
