package preflight

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// Timed reports whether the time of an answer tells a neighbour how far its knocks have
// come, so that it need not guess all of a sequence at once.
func Timed(m *automaton.Machine, b firewall.Backend) bool {
	if s, ok := b.(firewall.Steady); ok && s.Steady() {
		return false
	}
	p := m.Policy
	knocks := false
	for i := range m.Doors {
		knocks = knocks || len(m.Doors[i].Knock.Sequence) > 0
	}
	return knocks && (p.Posture == policy.Guard || p.Cover.Answers() || len(p.Allow) > 0)
}

// timed warns of a backend that takes longer for a right knock than for a wrong one,
// where some port answers.
func timed(m *automaton.Machine, b firewall.Backend) []Finding {
	if !Timed(m, b) {
		return nil
	}
	return []Finding{{
		Kind:     AnswersTimed,
		Severity: Warning,
		Message:  "with the " + b.Name() + " backend the time of an answer tells a neighbour which knock is right: a sequence is found one by one, within minutes",
		Hints: []string{"use the nftables backend, which does the same work for each packet; " +
			"or have no port answer: posture closed, cover drop and nothing in allow"},
	}}
}
