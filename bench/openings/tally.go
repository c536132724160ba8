//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A tally collects the outcomes of many openings. It is safe for concurrent
// use.
type tally struct {
	mu  sync.Mutex
	all []outcome
}

// add adds an outcome and returns the number of outcomes.
func (t *tally) add(o outcome) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, o)
	return len(t.all)
}

// in returns the share of openings that succeeded; atOnce, the share that did
// so with the first try.
func (t *tally) in() string     { return t.share(func(o outcome) bool { return o.in }) }
func (t *tally) atOnce() string { return t.share(func(o outcome) bool { return o.in && o.atOnce }) }

func (t *tally) share(is func(outcome) bool) string {
	n := 0
	for _, o := range t.all {
		if is(o) {
			n++
		}
	}
	if len(t.all) == 0 {
		return "-"
	}
	// Rounded down: what sometimes fails never shows as 100 %.
	return fmt.Sprintf("%d.%d %%", n*100/len(t.all), n*1000/len(t.all)%10)
}

// percentile returns the time within which that percentage of all openings
// succeeded, or "-" if fewer did.
func (t *tally) percentile(percent int) string {
	d, ok := t.within(percent)
	switch {
	case !ok:
		return "-"
	case d < 200*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
}

func (t *tally) within(percent int) (time.Duration, bool) {
	// The nearest rank: the smallest time that this percentage did not exceed.
	rank := (len(t.all)*percent + 99) / 100
	sorted := slices.SortedFunc(slices.Values(t.all), func(a, b outcome) int {
		if a.in != b.in { // a failure is later than any time
			if a.in {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.took, b.took)
	})
	if rank == 0 || !sorted[rank-1].in {
		return 0, false
	}
	return sorted[rank-1].took, true
}
