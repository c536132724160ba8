//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"time"

	"postern/internal/lab"
)

// An attack looks for the sequence of the door to a service, knowing nothing
// else. It may see answers, and time them.
type attack struct {
	*stand
	source sourceKind
	ports  []uint16 // the candidates
	log    io.Writer
	began  time.Time
}

// A clue is a way to time a candidate for the next knock.
type clue struct {
	name string
	// probes returns what is sent before, and what is timed, for a candidate
	// after the knocks that are known.
	probes func(s *stand, known []probe, candidate probe) (before, timed []probe)
}

var clues = []clue{
	{"an idle port after it", func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return append(slices.Clone(known), candidate), s.answered(probe{port: idle})
	}},
	{"the port itself", func(s *stand, known []probe, candidate probe) (before, timed []probe) {
		return known, s.answered(candidate)
	}},
}

// run walks until the door opens, or the context ends. It returns the sequence,
// or nil.
func (a *attack) run(ctx context.Context) (found []uint16, err error) {
	a.began = time.Now()
	debug.SetGCPercent(400)
	err = lab.OnCPU(0, func() (err error) {
		found, err = a.walk(ctx, nil)
		return err
	})
	if ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return found, err
}

// maxKnocks is how long a sequence the attack looks for.
const maxKnocks = 5

// walk returns the sequence that begins with the knocks known, or nil.
func (a *attack) walk(ctx context.Context, known []probe) ([]uint16, error) {
	last, err := a.knockAtDoor(ctx, known)
	if err != nil {
		return nil, err
	}
	if last != 0 {
		var all []uint16
		for _, k := range known {
			all = append(all, k.port)
		}
		return append(all, last), nil
	}
	if len(known) == maxKnocks-1 {
		return nil, nil
	}
	// Each failure doubles the effort. What times show may also be
	// the port's own, and no knock: the walk from there fails.
	refuted := []uint16{}
	for effort := 1; len(known) == 0 || effort <= 4; effort *= 2 {
		for _, by := range clues {
			next, err := a.next(ctx, by, known, refuted, effort)
			if err != nil {
				return nil, err
			}
			if next == 0 {
				continue
			}
			found, err := a.walk(ctx, append(slices.Clone(known), probe{port: next}))
			if found != nil || err != nil {
				return found, err
			}
			a.say("%d is no knock\n", next)
			refuted = append(refuted, next)
		}
	}
	return nil, nil
}

// knockAtDoor tries every port as the last knock, and returns the one after
// which the service answers, or 0.
func (a *attack) knockAtDoor(ctx context.Context, known []probe) (uint16, error) {
	for i, at := range rand.Perm(len(a.ports)) {
		if i%1024 == 0 && ctx.Err() != nil {
			return 0, ctx.Err()
		}
		port := a.ports[at]
		open, err := a.opens(a.source.next(), append(slices.Clone(known), probe{port: port}, probe{port: service}))
		if err != nil {
			return 0, err
		}
		if open {
			a.say("knock %d is %d: the service answers\n", len(known)+1, port)
			return port, nil
		}
	}
	a.say("no port opens the door as knock %d\n", len(known)+1)
	return 0, nil
}

// candidate is a port, and what its times have shown.
type candidate struct {
	port   uint16
	sum    float64 // of the ranks among others, each from -1/2 to 1/2
	trials int
}

// z returns how many standard errors the candidate is from the others.
func (c *candidate) z() float64 {
	return c.sum * math.Sqrt(12/float64(max(1, c.trials)))
}

const (
	roundTrials = 1 << 16 // trials of the first round, for an effort of 1
	finalists   = 16
	certain     = 6.0 // standard errors
)

// next looks for the next knock by one clue, and returns it, or 0. Each round
// goes on with the eighth of the candidates that stood out most so far.
func (a *attack) next(ctx context.Context, by clue, known []probe, refuted []uint16, effort int) (uint16, error) {
	var alive []*candidate
	for _, p := range a.ports {
		if p == service || p == allowed || p == idle || slices.Contains(known, probe{port: p}) || slices.Contains(refuted, p) {
			continue
		}
		alive = append(alive, &candidate{port: p})
	}
	everyone := alive
	for trials := effort * roundTrials; len(alive) > finalists; trials = effort * roundTrials / 2 {
		if err := a.round(ctx, by, known, alive, max(1, trials/len(alive))); err != nil {
			return 0, err
		}
		slices.SortFunc(alive, func(x, y *candidate) int { return cmp.Compare(math.Abs(y.z()), math.Abs(x.z())) })
		alive = alive[:max(finalists, len(alive)/8)]
	}
	// The finalists once more, from the start, each among as many others.
	pool := slices.Clone(alive)
	for len(pool) < 8*len(alive) {
		pool = append(pool, everyone[rand.IntN(len(everyone))])
	}
	for _, c := range everyone {
		c.sum, c.trials = 0, 0
	}
	if err := a.round(ctx, by, known, pool, max(1, effort*roundTrials/2/len(pool))); err != nil {
		return 0, err
	}
	best := slices.MaxFunc(alive, func(x, y *candidate) int { return cmp.Compare(math.Abs(x.z()), math.Abs(y.z())) })
	if math.Abs(best.z()) < certain {
		a.say("knock %d: nothing by %s, effort %d (best %d, %.1f standard errors)\n", len(known)+1, by.name, effort, best.port, best.z())
		return 0, nil
	}
	a.say("knock %d may be %d: by %s, AUC %.3f, %.0f standard errors\n", len(known)+1, best.port, by.name,
		0.5+best.sum/float64(best.trials), best.z())
	return best.port, nil
}

// round tries each candidate some times in random order. A trial's rank among
// those near it counts, so that a machine that gets slower does no harm.
func (a *attack) round(ctx context.Context, by clue, known []probe, alive []*candidate, trials int) error {
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
		for i, at := range rand.Perm(len(alive)) {
			if i%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			c := alive[at]
			before, timed := by.probes(a.stand, known, probe{port: c.port})
			t, err := a.try(a.source.next(), before, timed)
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

func (a *attack) say(format string, args ...any) {
	fmt.Fprintf(a.log, "%6.1f s, %d packets: ", time.Since(a.began).Seconds(), a.sent)
	fmt.Fprintf(a.log, format, args...)
}

// allPorts returns every port.
func allPorts() []uint16 {
	all := make([]uint16, 65535)
	for i := range all {
		all[i] = uint16(i + 1)
	}
	return all
}

// result says how an attack went.
func result(v variant, found []uint16, took time.Duration, packets int) string {
	what := "no sequence"
	if found != nil {
		what = fmt.Sprintf("found %d", found)
	}
	return fmt.Sprintf("%s: %s in %.1f s and %d packets", v, what, took.Seconds(), packets)
}
