package preflight

import (
	"fmt"
	"strings"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
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
	switch TimingOf(m, b) {
	case Untimed:
		return nil
	case Narrowed:
		return append(secondKnocks(m), fewDecoys(m)...)
	}
	return []Finding{{
		Kind:     AnswersTimed,
		Severity: Warning,
		Message:  "with the " + b.Name() + " backend the time of an answer tells a neighbour which knock is right: a sequence is found one by one, within minutes",
		Hints: []string{"use the nftables backend, which does the same work for each packet; " +
			"or have no port answer: posture closed, cover drop and nothing in allow"},
	}}
}

// A timedSequence is the knocks that open or close a door.
type timedSequence struct {
	door   *automaton.Door
	knocks []policy.Port
	at     []policy.Position
	closes bool
}

func timedSequences(m *automaton.Machine) []timedSequence {
	var all []timedSequence
	for i := range m.Doors {
		d := &m.Doors[i]
		for _, s := range []timedSequence{
			{d, d.Knock.Sequence, d.Knock.SequencePos, false}, {d, d.Knock.Close, d.Knock.ClosePos, true},
		} {
			if len(s.knocks) > 0 {
				all = append(all, s)
			}
		}
	}
	return all
}

// of names the sequence, after "knock".
func (s *timedSequence) of() string {
	if s.closes {
		return "that closes door " + s.door.Name
	}
	return "of door " + s.door.Name
}

// secondKnocks warns of second knocks that another sequence begins with. From a decoy such a
// port must lead on there, so it does not as behind the right first knock.
func secondKnocks(m *automaton.Machine) []Finding {
	all := timedSequences(m)
	begins := map[policy.Port]*timedSequence{}
	for i := range all {
		if s := &all[i]; begins[s.knocks[0]] == nil {
			begins[s.knocks[0]] = s
		}
	}
	var found []Finding
	for i := range all {
		s := &all[i]
		if len(s.knocks) < 2 || s.knocks[1] == s.knocks[0] {
			continue
		}
		other := begins[s.knocks[1]]
		if other == nil {
			continue
		}
		found = append(found, aboutLine(SecondKnockFirst, m.Policy.Diagnose(s.at[1],
			fmt.Sprintf("the second knock %s is also the first %s (line %d), which times narrow down: "+
				"a neighbour who times answers need not try all ports for it", s.of(), other.of(), other.at[0].Line),
			"take a second knock that no sequence begins with")))
	}
	return found
}

// leastDecoys is how many ports of a protocol are to take the time of a first knock. A tenth of
// what most policies have leaves a tenth of the hours that it takes to try what is behind them.
const leastDecoys = 100

// fewDecoys warns of first knocks that few other ports are like, as there is so much behind.
func fewDecoys(m *automaton.Machine) []Finding {
	var found []Finding
	all := timedSequences(m)
	for _, short := range m.DecoyShortages(leastDecoys) {
		for i := range all {
			s := &all[i]
			if s.knocks[0] != short.First {
				continue
			}
			ports := fmt.Sprintf("only some %d other", short.Ports)
			if short.Ports == 0 {
				ports = "no other"
			}
			found = append(found, aboutLine(DecoysFew, m.Policy.Diagnose(s.at[0],
				fmt.Sprintf("so much is behind the first knock %s that %s %s ports take as long as one, not a thousand: "+
					"a neighbour who times answers has few to try a second knock behind", s.of(), ports, strings.ToUpper(short.Protocol.String())),
				"let doors with other first knocks open some of the services, and none of these be the second knock")))
			break
		}
	}
	return found
}
