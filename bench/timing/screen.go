//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"

	"postern/internal/lab"
)

// signals are the times of one trial of a candidate: of the packet itself, of the same
// packet again, of an idle port behind it, and how much later than that one an allowed
// port answered. Each is 0 where nothing is answered.
const signals = 4

// time tries a candidate once after the knocks that are known, from a fresh source.
func (a *attack) time(known []probe, candidate probe) (ns [signals]int64, err error) {
	source := a.source.next()
	itself := a.answered(candidate)
	for i, call := range []struct{ before, timed []probe }{
		{known, itself}, {nil, itself}, {nil, []probe{{port: idle}, {port: allowed}}},
	} {
		t, err := a.try(source, call.before, call.timed)
		if err != nil {
			return ns, err
		}
		ns[i] = t.answer
		if i == 2 {
			ns[2], ns[3] = t.answer-t.gap, t.gap
		}
	}
	return ns, nil
}

// A candidate is what the next knock may be, and what its times have shown.
type candidate struct {
	probe
	sums     [signals]float64 // of the ranks among others, each from -1/2 to 1/2
	trials   int
	distance float64 // by standOut
}

func (c *candidate) mean(i int) float64 { return c.sums[i] / float64(max(1, c.trials)) }

// standOut works out how far each candidate is from what others show, and sorts by it: in
// standard deviations, by what shows it best. That is one signal, or their sum, or all of
// them by the distance of Mahalanobis (1936): there those signals count most in which ports
// are most alike, and what a port's own place in the kernel's tables does to two signals is
// taken off.
func standOut(all, others []*candidate) {
	var cov matrix
	total := 0.0 // variance of the sum
	for i := range signals {
		for j := range signals {
			for _, c := range others {
				cov[i][j] += c.mean(i) * c.mean(j) / float64(len(others))
			}
			total += cov[i][j]
		}
		cov[i][i] += 1e-9 // a signal that there is not
	}
	inverse := cov.inverse()
	for _, c := range all {
		squares, sum := 0.0, 0.0
		c.distance = 0
		for i := range signals {
			m := c.mean(i)
			c.distance = max(c.distance, math.Abs(m)/math.Sqrt(cov[i][i]))
			sum += m
			for j := range signals {
				squares += m * inverse[i][j] * c.mean(j)
			}
		}
		c.distance = max(c.distance, math.Abs(sum)/math.Sqrt(total+1e-9))
		// Chance makes four squares this great with the probability exp(-x/2)*(1+x/2); one
		// square of about x - 2*log(1+x/2) is as rare.
		squares = max(0, squares)
		c.distance = max(c.distance, math.Sqrt(squares-2*math.Log1p(squares/2)))
	}
	slices.SortFunc(all, func(x, y *candidate) int { return cmp.Compare(y.distance, x.distance) })
}

const (
	roundTrials = 1 << 16 // trials of the first round, for an effort of 1
	finalists   = 16
	certain     = 6.0 // standard deviations
)

// next looks for the next knock. Each round goes on with the quarter of the candidates that
// stood out most. It returns those that are certain to stand out, the first one most.
func (a *attack) next(ctx context.Context, known []probe, effort int) ([]probe, error) {
	var all []*candidate
	for _, p := range a.candidates {
		if !p.udp && slices.Contains([]uint16{service, allowed, idle}, p.port) || slices.Contains(known, p) {
			continue
		}
		all = append(all, &candidate{probe: p})
	}
	left := slices.Clone(all)
	for trials := effort * roundTrials; len(left) > finalists; trials = effort * roundTrials / 2 {
		if err := a.round(ctx, known, left, max(1, trials/len(left))); err != nil {
			return nil, err
		}
		standOut(left, left)
		a.note(known, left)
		left = left[:max(finalists, len(left)/4)]
	}
	// The finalists once more, from the start, each among others; and again those that are
	// certain, as one of so many may stand out by chance.
	var others []*candidate
	for _, at := range rand.Perm(len(all)) {
		if len(others) == 7*finalists {
			break
		}
		if !slices.Contains(left, all[at]) {
			others = append(others, all[at])
		}
	}
	for range 2 {
		pool := slices.Concat(left, others)
		for _, c := range pool {
			c.sums, c.trials = [signals]float64{}, 0
		}
		if err := a.round(ctx, known, pool, max(1, effort*roundTrials/2/len(pool))); err != nil {
			return nil, err
		}
		standOut(left, others)
		a.note(known, left)
		best := left[0]
		left = slices.DeleteFunc(left, func(c *candidate) bool { return c.distance < certain })
		a.say("knock %d, effort %d: %d stand out; most, %v, by %.1f\n", len(known)+1, effort, len(left), best.probe, best.distance)
		if len(left) == 0 {
			break
		}
	}
	var found []probe
	for _, c := range left {
		found = append(found, c.probe)
	}
	return found, nil
}

// note says how the right knock does, which the attack does not know.
func (a *attack) note(known []probe, sorted []*candidate) {
	if !slices.Equal(known, a.knocks[:len(known)]) {
		return
	}
	for i, c := range sorted {
		if c.probe == a.knocks[len(known)] {
			a.say("  the right knock is number %d of %d, by %.1f; AUC %.3f, again %.3f, idle %.3f, behind it %.3f in %d trials\n",
				i+1, len(sorted), c.distance, c.mean(0)+.5, c.mean(1)+.5, c.mean(2)+.5, c.mean(3)+.5, c.trials)
		}
	}
}

// round tries each candidate some times in random order. A trial's rank among
// those near it counts, so that a machine that gets slower does no harm.
func (a *attack) round(ctx context.Context, known []probe, all []*candidate, trials int) error {
	const near = 1024
	type trial struct {
		*candidate
		ns [signals]int64
	}
	var batch []trial
	count := func() {
		for s := range signals {
			slices.SortFunc(batch, func(x, y trial) int { return cmp.Compare(x.ns[s], y.ns[s]) })
			for i := 0; i < len(batch); {
				j := i
				for j < len(batch) && batch[j].ns[s] == batch[i].ns[s] {
					j++
				}
				rank := float64(i+j)/2/float64(len(batch)) - 0.5 // the mean one, for equal times
				for ; i < j; i++ {
					batch[i].sums[s] += rank
				}
			}
		}
		for _, t := range batch {
			t.trials++
		}
		batch = batch[:0]
	}
	for range trials {
		for i, at := range rand.Perm(len(all)) {
			if i%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			ns, err := a.time(known, all[at].probe)
			if errors.Is(err, errSilent) {
				continue
			}
			if err != nil {
				return err
			}
			if batch = append(batch, trial{all[at], ns}); len(batch) == near {
				count()
			}
		}
	}
	count()
	return a.lost()
}

// inCrowd is what crowd measures.
const inCrowd = "one of 2,048 ports, each in turn"

// crowd tries the first knock among other ports, each as often and as long ago, as an attack
// does: what only the knock meets is in none of the processor's caches, and its branch
// prediction knows nothing of it. It adds what the times show to two candidates: of the
// knock, and of the decoys among the others, which an attack cannot tell from it.
func (s *stand) crowd(ctx context.Context, trials int, knock, decoy *candidate) error {
	all := []*candidate{{probe: s.knocks[0]}}
	for len(all) < 2048 {
		all = append(all, &candidate{probe: probe{port: s.wrongPort()}})
	}
	a := &attack{stand: s, source: net48}
	if err := lab.OnCPU(0, func() error { return a.round(ctx, nil, all, trials) }); err != nil {
		return err
	}
	knock.add(all[0])
	for _, c := range all[1:] {
		if s.decoys[c.probe] {
			decoy.add(c)
		}
	}
	return nil
}

// add counts another's trials as its own.
func (c *candidate) add(other *candidate) {
	c.trials += other.trials
	for i := range signals {
		c.sums[i] += other.sums[i]
	}
}
