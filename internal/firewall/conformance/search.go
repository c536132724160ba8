package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"postern/internal/automaton"
)

const (
	// floods is how many sources spend their budgets at once. They do so
	// without the others: sources share budgets by a hash.
	floods = 4
	// perWorld is how many policies follow one another on one server.
	perWorld = 10
)

// A search looks for a difference between a backend and the reference.
type search struct {
	subject *subject
	seed    uint64
	world   *world
	rounds  int
	counts  counts
}

// A failure is a scenario that the backend decides otherwise than the reference.
type failure struct {
	seed    uint64
	round   int
	plan    *plan
	trial   *trial
	replace bool // the rules were replaced after each look
	alone   bool // it fails without the other scenarios, too
	again   bool // it came again among all the others
	tries   int  // how often it was played to make it smaller
}

// round tries one more policy. Everything in it follows from the seed and the
// number of the round.
func (s *search) round() (*failure, error) {
	i := s.rounds
	s.rounds++
	r := rand.New(rand.NewPCG(s.seed, uint64(i)))
	if i%perWorld == 0 || s.world == nil {
		if err := s.close(); err != nil {
			return nil, err
		}
		w, err := newWorld(s.subject.backend)
		if err != nil {
			return nil, err
		}
		s.world = w
	}
	atOnce := s.subject.atOnce
	blocks := make([]block, atOnce+floods)
	for k := range blocks {
		blocks[k] = block(i%perWorld*len(blocks) + k)
	}
	p, m, err := s.subject.draw(r, blocks)
	if err != nil {
		return nil, err
	}
	s.counts.policies++
	s.counts.drawn = s.subject.drawn
	var scenarios []scenario
	for _, b := range blocks[:atOnce] {
		scenarios = append(scenarios, write(r, &s.subject.pace, m, b))
	}
	// Under every other policy the rules are replaced while clients knock: by
	// those of the same policy with its doors in the opposite order.
	var other *automaton.Machine
	if i%2 == 1 {
		if other, err = s.subject.machine(p.reversed()); err != nil {
			return nil, err
		}
	}
	f, err := s.try(p, m, other, scenarios, 4)
	if f != nil || err != nil || i%2 != 0 || m.Parameters.FirstKnocks == (automaton.Budget{}) {
		return f, err
	}
	var spending []scenario
	for _, b := range blocks[atOnce:] {
		spending = append(spending, writeFlood(r, &s.subject.pace, m, b))
	}
	if err := s.world.remove(); err != nil {
		return nil, err
	}
	f, err = s.try(p, m, nil, spending, 12)
	return f, errors.Join(err, s.world.remove())
}

// try plays scenarios under a policy, which another may replace, and looks so many
// times at what the backend holds.
func (s *search) try(p *plan, m, replace *automaton.Machine, scenarios []scenario, looks int) (*failure, error) {
	if err := s.world.apply(m); err != nil {
		return nil, fmt.Errorf("apply: %w; the policy was\n%s", err, p.text())
	}
	before := s.world.looks
	trials, err := s.world.play(m, replace, scenarios, looks)
	if err != nil {
		return nil, err
	}
	s.counts.looks += s.world.looks - before
	var found *failure
	for _, t := range trials {
		s.counts.add(p, t)
		if t.differs() && (found == nil || len(t.scenario) < len(found.trial.scenario)) {
			found = &failure{seed: s.seed, round: s.rounds - 1, plan: p, replace: replace != nil, trial: t}
		}
	}
	return found, nil
}

// confirm makes a failure smaller, or else plays all that it was a part of again.
func (s *search) confirm(f *failure) (*failure, error) {
	small, err := shrink(s.subject, f)
	if err != nil || small.alone {
		return small, err
	}
	// From the round before, in a new world: what that one has left behind may matter.
	again := &search{subject: s.subject, seed: s.seed, rounds: max(0, f.round-1)}
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
	if s.world == nil {
		return nil
	}
	w := s.world
	s.world = nil
	return w.close()
}
