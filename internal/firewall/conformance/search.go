package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"postern/internal/automaton"
)

const (
	// floods is how many budgets are used up, one after the other and with no other
	// scenario beside them: sources share budgets by a hash, and two that fall into
	// one bucket would spoil each other's.
	floods = 4
	// perTestbed is how many policies follow one another on one server.
	perTestbed = 10
)

// A search looks for a failure: a difference between a backend and the
// reference.
type search struct {
	subject *subject
	seed    uint64
	testbed *testbed
	rounds  int
	still   bool // it replaces no rules
	counts  counts
}

// A failure is a scenario that the backend and the reference judge differently.
type failure struct {
	seed    uint64
	round   int
	plan    *plan
	trial   *trial
	replace bool // the rules were replaced after each look
	alone   bool // it fails without the other scenarios
	again   bool // it recurred among the other scenarios
	tries   int  // how often it was played to reduce it
}

// round tries one more policy. Everything in it is determined by the seed and
// the number of the round.
func (s *search) round() (*failure, error) {
	i := s.rounds
	s.rounds++
	r := rand.New(rand.NewPCG(s.seed, uint64(i)))
	if i%perTestbed == 0 || s.testbed == nil {
		if err := s.close(); err != nil {
			return nil, err
		}
		w, err := newTestbed(s.subject.backend, s.subject.keys)
		if err != nil {
			return nil, err
		}
		s.testbed = w
	}
	atOnce := s.subject.atOnce
	blocks := make([]block, atOnce+floods)
	for k := range blocks {
		blocks[k] = block(i%perTestbed*len(blocks) + k)
	}
	p, m, err := s.subject.draw(r, blocks)
	if err != nil {
		return nil, err
	}
	s.counts.policies++
	s.counts.drawn, s.counts.drops, s.counts.tags = s.subject.drawn, s.subject.early, s.subject.tags
	var scenarios []scenario
	for _, b := range blocks[:atOnce] {
		scenarios = append(scenarios, write(r, &s.subject.pace, m, b))
	}
	// Under every other policy the rules are replaced while clients knock, by
	// those of another one, in which a door has changed or is gone.
	var other *automaton.Machine
	if i%2 == 1 && !s.still {
		p.change = p.drawChange(r, s.subject.timeouts, blocks)
		if other, err = s.subject.successor(p, m); err != nil {
			return nil, err
		}
	}
	f, err := s.try(p, m, other, scenarios, 4)
	if f != nil || err != nil || i%2 != 0 || m.Parameters.Attempts == (automaton.Budget{}) {
		return f, err
	}
	if err := s.testbed.remove(); err != nil {
		return nil, err
	}
	for _, b := range blocks[atOnce:] {
		flood := []scenario{writeFlood(r, &s.subject.pace, m, b)}
		if f == nil && err == nil {
			f, err = s.try(p, m, nil, flood, 12/floods)
			err = errors.Join(err, s.testbed.remove())
		}
	}
	return f, err
}

// try plays scenarios under a policy, which replace may replace, and compares
// the backend's state that many times.
func (s *search) try(p *plan, m, replace *automaton.Machine, scenarios []scenario, inspections int) (*failure, error) {
	if err := s.testbed.apply(m); err != nil {
		return nil, fmt.Errorf("apply: %w; the policy was\n%s", err, p.text())
	}
	if err := s.testbed.know(m); err != nil {
		return nil, err
	}
	before, dropped := s.testbed.inspections, s.testbed.dropped
	trials, err := s.testbed.play(m, replacement{machine: replace}, scenarios, inspections)
	if err != nil {
		return nil, err
	}
	s.counts.inspections += s.testbed.inspections - before
	s.counts.dropped += s.testbed.dropped - dropped
	var found *failure
	for _, t := range trials {
		s.counts.add(p, t)
		if t.differs() && (found == nil || len(t.scenario) < len(found.trial.scenario)) {
			found = &failure{seed: s.seed, round: s.rounds - 1, plan: p, replace: replace != nil, trial: t}
		}
	}
	return found, nil
}

// confirm reduces a failure, or else plays everything that it was part of
// again.
func (s *search) confirm(f *failure) (*failure, error) {
	small, err := shrink(s.subject, f)
	if err != nil || small.alone {
		return small, err
	}
	// From the round before, in a new testbed: what that round left behind may
	// matter.
	again := &search{subject: s.subject, seed: s.seed, rounds: max(0, f.round-1), still: s.still}
	for range 2 {
		found, err := again.round()
		if found != nil || err != nil {
			f.again = found != nil
			return f, errors.Join(err, again.close())
		}
	}
	return f, again.close()
}

func (s *search) close() error {
	if s.testbed == nil {
		return nil
	}
	w := s.testbed
	s.testbed = nil
	return w.close()
}
