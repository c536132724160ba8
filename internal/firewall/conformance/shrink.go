package conformance

import (
	"slices"
	"time"
)

// Limits on reducing a failure.
const (
	maxTries     = 120
	maxShrinking = 2 * time.Minute
)

// A shrinker plays parts of a failed scenario alone, each in a new testbed, and
// keeps what still fails.
type shrinker struct {
	subject  *subject
	best     *failure
	deadline time.Time
	err      error
}

// shrink returns the smallest part of the failure that it finds to fail, too.
func shrink(b *subject, f *failure) (*failure, error) {
	s := &shrinker{subject: b, best: f, deadline: time.Now().Add(maxShrinking)}
	whole := scenario(f.trial.scenario[:f.trial.wrong+1])
	if !s.fails(f.plan, withSentTimes(whole, f.trial.sent), f.trial.kept) && !s.fails(f.plan, f.trial.scenario, f.trial.kept) {
		return f, s.err
	}
	if f.replace {
		s.best.replace = false
		s.best.replace = !s.fails(s.best.plan, s.best.trial.scenario, 0)
	}
	s.events()
	s.policy()
	s.events()
	s.gaps()
	return s.best, s.err
}

// withSentTimes returns a scenario with the times at which it was really sent.
func withSentTimes(s scenario, sent []span) scenario {
	s = slices.Clone(s)
	for i := range s {
		s[i].at = sent[i].from - sent[0].from
	}
	return s
}

// fails plays a scenario, whose rules are replaced after so many packets if they
// are at all, and reports whether it fails; if so, it is the best so far.
func (s *shrinker) fails(p *plan, sc scenario, kept int) bool {
	if _, err := s.subject.machine(p); err != nil || len(sc) == 0 {
		return false // without that part it is not a valid policy, or not one for this backend
	}
	for range 4 { // again if it was unsure
		if s.err != nil || s.best.tries >= maxTries || time.Now().After(s.deadline) {
			return false
		}
		s.best.tries++
		var t *trial
		t, s.err = alone(s.subject, p, s.best.replace, sc, kept)
		if s.err != nil {
			return false
		}
		if t.differs() {
			t.scenario = t.scenario[:t.wrong+1]
			s.best = &failure{seed: s.best.seed, round: s.best.round, plan: p, trial: t, replace: s.best.replace, alone: true, tries: s.best.tries}
			return true
		}
		if !t.unsure {
			return false
		}
	}
	return false
}

// alone plays one scenario in a testbed of its own.
func alone(b *subject, p *plan, replace bool, sc scenario, kept int) (t *trial, err error) {
	m, err := b.machine(p)
	if err != nil {
		return nil, err
	}
	next := replacement{after: kept}
	if replace {
		if next.machine, err = b.successor(p, m); err != nil {
			return nil, err
		}
	}
	w, err := newTestbed(b.backend, b.keys)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := w.close(); err == nil {
			err = e
		}
	}()
	if err := w.apply(m); err != nil {
		return nil, err
	}
	if err := w.know(m); err != nil {
		return nil, err
	}
	trials, err := w.play(m, next, []scenario{sc}, len(sc))
	if err != nil {
		return nil, err
	}
	return trials[0], nil
}

// events leaves out packets, many at a time and then fewer.
func (s *shrinker) events() {
	for size := len(s.best.trial.scenario) / 2; size >= 1; size /= 2 {
		for at := 0; at < len(s.best.trial.scenario); {
			sc, kept := s.best.trial.scenario, s.best.trial.kept
			end := min(at+size, len(sc))
			if !s.fails(s.best.plan, slices.Delete(slices.Clone(sc), at, end), kept-max(0, min(kept, end)-at)) {
				at += size
			}
		}
	}
}

// policy leaves out doors and other parts of the policy.
func (s *shrinker) policy() {
	try := func(change func(p *plan)) bool {
		p := *s.best.plan
		p.doors, p.allow = slices.Clone(p.doors), slices.Clone(p.allow)
		change(&p)
		return s.fails(&p, s.best.trial.scenario, s.best.trial.kept)
	}
	for i := 0; i < len(s.best.plan.doors); {
		if !try(func(p *plan) { p.doors = slices.Delete(p.doors, i, i+1) }) {
			i++
		}
	}
	for i := 0; i < len(s.best.plan.allow); {
		if !try(func(p *plan) { p.allow = slices.Delete(p.allow, i, i+1) }) {
			i++
		}
	}
	if len(s.best.plan.interfaces) > 0 {
		try(func(p *plan) { p.interfaces = nil })
	}
	for i := range s.best.plan.doors {
		if d := &s.best.plan.doors[i]; len(d.from) > 0 {
			try(func(p *plan) { p.doors[i].from = nil })
		}
		if d := &s.best.plan.doors[i]; len(d.services) > 1 {
			for k := len(d.services) - 1; k >= 0 && len(s.best.plan.doors[i].services) > 1; k-- {
				try(func(p *plan) { p.doors[i].services = slices.Delete(slices.Clone(p.doors[i].services), k, k+1) })
			}
		}
	}
}

// gaps leaves out waiting.
func (s *shrinker) gaps() {
	for i := range s.best.trial.scenario {
		if i >= len(s.best.trial.scenario) {
			return
		}
		sc := slices.Clone(s.best.trial.scenario)
		gap := sc[i].at
		if i > 0 {
			gap -= sc[i-1].at
		}
		if gap < tick {
			continue
		}
		for k := i; k < len(sc); k++ {
			sc[k].at -= gap
		}
		s.fails(s.best.plan, sc, s.best.trial.kept)
	}
}
