//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// A clue is a way to time a candidate for the next knock.
type clue struct {
	name string
	// probes returns what is sent before, and what is timed, for a candidate
	// after the knocks that are known.
	probes func(s *stand, known []probe, candidate probe) (before, timed []probe)
	// The time of the same probes again is taken off: a port's own place in the
	// kernel's tables is no knock.
	lessAgain bool
}

var clues = []clue{
	{name: "an idle port after it", probes: func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return append(slices.Clone(known), candidate), s.answered(probe{port: idle})
	}},
	{name: "an answer close behind that", probes: func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return append(slices.Clone(known), candidate), []probe{{port: idle}, {port: allowed}}
	}},
	{name: "the port itself", probes: func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return known, s.answered(candidate)
	}},
	{name: "the port after an idle one", probes: func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return append([]probe{{port: idle}}, known...), s.answered(candidate)
	}},
	{name: "its first time less its second", probes: func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return known, s.answered(candidate)
	}, lessAgain: true},
}

// cluesNamed returns the clues whose names contain a text.
func cluesNamed(text string) []clue {
	return slices.DeleteFunc(slices.Clone(clues), func(c clue) bool { return !strings.Contains(c.name, text) })
}

// A candidate is what the next knock may be, and what its times have shown.
type candidate struct {
	probe
	sum    float64 // of the ranks among others, each from -1/2 to 1/2
	trials int
}

// auc returns the probability that the candidate takes longer than others.
func (c *candidate) auc() float64 { return 0.5 + c.sum/float64(max(1, c.trials)) }

// z returns how many standard errors the candidate is from the others, slower
// or faster.
func (c *candidate) z() float64 {
	return math.Abs(c.sum) * math.Sqrt(12/float64(max(1, c.trials)))
}

const (
	roundTrials = 1 << 16 // trials of the first round, for an effort of 1
	finalists   = 16
	certain     = 6.0 // standard errors
)

// next looks for the next knock by one clue. Each round goes on with the eighth
// of the candidates that stood out most. It returns those that are certain to
// stand out, the first one most: a port's place in the kernel's tables may make
// it slow, too, so there are more of them than knocks.
func (a *attack) next(ctx context.Context, by clue, known, refuted []probe, effort int) ([]probe, error) {
	var all []*candidate
	for _, p := range a.candidates {
		if !p.udp && slices.Contains([]uint16{service, allowed, idle}, p.port) || slices.Contains(known, p) || slices.Contains(refuted, p) {
			continue
		}
		all = append(all, &candidate{probe: p})
	}
	left := slices.Clone(all)
	for trials := effort * roundTrials; len(left) > finalists; trials = effort * roundTrials / 2 {
		if err := a.round(ctx, by, known, left, max(1, trials/len(left))); err != nil {
			return nil, err
		}
		slices.SortFunc(left, func(x, y *candidate) int { return cmp.Compare(y.z(), x.z()) })
		left = left[:max(finalists, len(left)/8)]
	}
	// The finalists once more, from the start, each among others.
	for _, c := range all {
		c.sum, c.trials = 0, 0
	}
	pool := slices.Clone(left)
	for _, at := range rand.Perm(len(all)) {
		if len(pool) == 8*finalists {
			break
		}
		if !slices.Contains(left, all[at]) {
			pool = append(pool, all[at])
		}
	}
	if err := a.round(ctx, by, known, pool, max(1, effort*roundTrials/2/len(pool))); err != nil {
		return nil, err
	}
	slices.SortFunc(left, func(x, y *candidate) int { return cmp.Compare(y.z(), x.z()) })
	var found []probe
	for _, c := range left {
		if c.z() >= certain {
			found = append(found, c.probe)
		}
	}
	best := left[0]
	a.say("knock %d by %s, effort %d: %d stand out; most, %v, AUC %.3f, %.1f standard errors\n",
		len(known)+1, by.name, effort, len(found), best.probe, best.auc(), best.z())
	return found, nil
}

// round tries each candidate some times in random order. A trial's rank among
// those near it counts, so that a machine that gets slower does no harm.
func (a *attack) round(ctx context.Context, by clue, known []probe, all []*candidate, trials int) error {
	const near = 1024
	type trial struct {
		*candidate
		ns int64
	}
	var batch []trial
	count := func() {
		slices.SortFunc(batch, func(x, y trial) int { return cmp.Compare(x.ns, y.ns) })
		for i, t := range batch {
			t.sum += (float64(i)+0.5)/float64(len(batch)) - 0.5
			t.trials++
		}
		batch = batch[:0]
	}
	for range trials {
		for i, at := range rand.Perm(len(all)) {
			if i%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			c := all[at]
			before, timed := by.probes(a.stand, known, c.probe)
			source := a.source.next()
			t, err := a.try(source, before, timed)
			if err == nil && by.lessAgain {
				var again times
				again, err = a.try(source, nil, timed)
				t.answer -= again.answer
			}
			if errors.Is(err, errSilent) {
				continue
			}
			if err != nil {
				return err
			}
			if batch = append(batch, trial{c, t.answer}); len(batch) == near {
				count()
			}
		}
	}
	count()
	return a.lost()
}
