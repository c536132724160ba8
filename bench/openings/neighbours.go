//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"postern/bench/machine"
	"postern/internal/lab"
)

// patient is how long neighbours try.
const patient = 60 * time.Second

var connectPatiently = &client{
	command: []string{"postern", "connect", "--timeout", patient.String(), "server"}, reportsOpen: isOpen,
}

// neighbours measures openings that begin at the same moment on different machines
// behind one address. They cannot take turns, and share one budget.
func (b *plan) neighbours(ctx context.Context) error {
	fmt.Fprintf(b.out, `Postern connect on machines behind one address, all at once, %v round trip, no loss:

machines     in   after 15 s   half of them   the last
`, 2*delay)
	for _, n := range []int{2, 5, 10, 50} {
		if n > max(2, b.openings/4) {
			break
		}
		took, load, err := b.atOnce(ctx, n)
		if err != nil {
			return err
		}
		soon, last, half := 0, "-", "-"
		for _, d := range took {
			if d <= 15*time.Second {
				soon++
			}
		}
		if len(took) >= (n+1)/2 {
			half = fmt.Sprintf("%.1f s", took[(n+1)/2-1].Seconds())
		}
		if len(took) == n {
			last = fmt.Sprintf("%.1f s", took[n-1].Seconds())
		}
		fmt.Fprintf(b.out, "%8d %6d %12d %14s %10s%s\n", n, len(took), soon, half, last, mark(load))
	}
	return nil
}

// atOnce starts as many openings on one host, each with a memory of its own, and
// returns the times of those that came through, the shortest first.
func (b *plan) atOnce(ctx context.Context, n int) (took []time.Duration, load machine.Load, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l := lab.New()
	defer l.Close()
	st, err := newStand(ctx, l, b.kit, fmt.Sprintf("nat%d", n), ours, overNetwork(l, network{}.impairment(0)))
	if err != nil {
		return nil, load, err
	}
	since := machine.Watch()
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range n {
		cache := filepath.Join(st.cache, fmt.Sprint(i))
		if err := os.MkdirAll(cache, 0o700); err != nil {
			return nil, load, err
		}
		one := *st
		one.cache, one.limit = cache, patient
		all.Go(func() {
			failed := one.asClient(hidden, func() error {
				o, err := one.open(ctx, connectPatiently)
				mu.Lock()
				defer mu.Unlock()
				if o.in {
					took = append(took, o.took)
				}
				return err
			})
			if failed != nil {
				cancel(failed)
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, load, err
	}
	slices.Sort(took)
	return took, since(), st.check()
}
