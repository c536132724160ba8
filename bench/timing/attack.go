//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"postern/internal/lab"
)

// An attack looks for the sequence of the door to a service, knowing nothing
// else. It may see answers, and time them.
type attack struct {
	*stand
	source     sourceKind
	candidates []probe // what a knock may be
	log        io.Writer

	began   time.Time
	guessed [][]probe // the first knocks that it took for right on its way
}

// run walks until the door opens, or the context ends. It returns the sequence,
// or nil.
func (a *attack) run(ctx context.Context) (found []probe, err error) {
	a.began = time.Now()
	err = lab.OnCPU(0, func() (err error) {
		found, err = a.walk(ctx, nil, math.MaxInt/2/roundTrials)
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil
	}
	return found, err
}

// maxKnocks is how long a sequence the attack looks for: as those that
// `postern init` draws.
const maxKnocks = 3

// walk returns the sequence that begins with the knocks known, or nil. It makes
// at most so much effort for each further knock.
func (a *attack) walk(ctx context.Context, known []probe, most int) ([]probe, error) {
	a.guessed = append(a.guessed, known)
	last, err := a.knockAtDoor(ctx, known)
	if err != nil {
		return nil, err
	}
	if last != (probe{}) {
		return append(slices.Clone(known), last), nil
	}
	if len(known) == maxKnocks-1 {
		return nil, nil
	}
	// Each failure doubles the effort. What stands out may be no knock: then the
	// walk from there fails.
	for effort := 1; effort <= most; effort *= 2 {
		next, err := a.next(ctx, known, effort)
		if err != nil {
			return nil, err
		}
		for _, knock := range next[:min(len(next), effort)] {
			found, err := a.walk(ctx, append(slices.Clone(known), knock), effort)
			if found != nil || err != nil {
				return found, err
			}
		}
	}
	return nil, nil
}

// knockAtDoor tries every candidate as the last knock, and returns the one
// after which the service answers, or the zero probe.
func (a *attack) knockAtDoor(ctx context.Context, known []probe) (probe, error) {
	for i, at := range rand.Perm(len(a.candidates)) {
		if i%1024 == 0 && ctx.Err() != nil {
			return probe{}, ctx.Err()
		}
		last := a.candidates[at]
		open, err := a.opens(a.source.next(), append(slices.Clone(known), last, probe{port: service}))
		if err != nil {
			return probe{}, err
		}
		if open {
			a.say("knock %d is %v: the service answers\n", len(known)+1, last)
			return last, nil
		}
	}
	a.say("nothing opens the door as knock %d\n", len(known)+1)
	return probe{}, nil
}

// say notes something with the time and the packets that it took so far.
func (a *attack) say(format string, args ...any) {
	fmt.Fprintf(a.log, "%6.1f s, %d packets: ", time.Since(a.began).Seconds(), a.sent)
	fmt.Fprintf(a.log, format, args...)
}

// everyPort returns a probe of each port.
func everyPort(udp bool) []probe {
	all := make([]probe, 65535)
	for i := range all {
		all[i] = probe{uint16(i + 1), udp}
	}
	return all
}

// result says how an attack on a sequence went.
func (a *attack) result(found, secret []probe, took time.Duration) string {
	what := fmt.Sprintf("found %v", found)
	if found == nil {
		right := 0
		for _, g := range a.guessed {
			if slices.Equal(g, secret[:len(g)]) {
				right = max(right, len(g))
			}
		}
		what = fmt.Sprintf("no sequence, %d of %d knocks", right, len(secret))
	}
	return fmt.Sprintf("%s: %s in %.1f s and %d packets", a.variant, what, took.Seconds(), a.sent)
}
