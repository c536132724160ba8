package preflight

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
)

// A Timing says what a neighbour learns who times answers, so that it need not guess all of
// a sequence at once.
type Timing int

const (
	Untimed  Timing = iota // nothing: no port answers, or no door has knocks
	Narrowed               // which ports may be the first knock: a thousand, in minutes
	Told                   // which one is, within seconds
)

// TimingOf returns what is learned where a machine runs in a backend.
func TimingOf(m *automaton.Machine, b firewall.Backend) Timing {
	knocks := false
	for i := range m.Doors {
		knocks = knocks || len(m.Doors[i].Knock.Sequence) > 0
	}
	if !knocks || !m.Policy.Answers() {
		return Untimed
	}
	if s, ok := b.(firewall.Steady); ok && s.Steady() {
		return Narrowed
	}
	return Told
}

// timed warns of a backend that takes longer for a right knock than for a wrong one,
// where some port answers.
func timed(m *automaton.Machine, b firewall.Backend) []Finding {
	if TimingOf(m, b) != Told {
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
