//go:build linux

package main

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A tally is the outcomes of many openings. It is safe for concurrent use.
type tally struct {
	mu  sync.Mutex
	all []outcome
}

// add returns how many there are now.
func (t *tally) add(o outcome) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, o)
	return len(t.all)
}

// in is the share that got in, and atOnce of all those that did so by their
// first try.
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
	// Rounded down: what does not always get in never shows as 100 %.
	return fmt.Sprintf("%d.%d %%", n*100/len(t.all), n*1000/len(t.all)%10)
}

// percentile is the time in which so many percent of all openings stood, or
// "-" if fewer ever got in.
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
	// The nearest rank: the smallest time that so many percent did not exceed.
	rank := (len(t.all)*percent + 99) / 100
	sorted := slices.SortedFunc(slices.Values(t.all), func(a, b outcome) int {
		if a.in != b.in { // never is later than anything
			if a.in {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.stood, b.stood)
	})
	if rank == 0 || !sorted[rank-1].in {
		return 0, false
	}
	return sorted[rank-1].stood, true
}
