package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A crowd makes many openings at once. An opening mostly waits, so that one
// machine can be many; but when its processors are busy, it is their time that is
// measured. So openings begin at even intervals, as long as keeps the processors idle for
// half of the time.
type crowd struct {
	stands []*stand

	mu    sync.Mutex
	begun int       // openings that have
	next  time.Time // when the next may
	since time.Duration
}

// busy is the share of the processors' time that openings may take.
const busy = 0.5

// run makes a number of openings.
func (c *crowd) run(ctx context.Context, what string, client *client, openings int) (*tally, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.since = processorTime()
	t := &tally{}
	started := time.Now()
	var all sync.WaitGroup
	for _, st := range c.stands {
		all.Go(func() {
			err := st.asClient(hidden, func() error {
				for c.turn(ctx, openings) {
					if err := st.renew(client); err != nil {
						return err
					}
					o, err := st.open(ctx, client)
					if err != nil {
						return err
					}
					n := t.add(o)
					fmt.Fprintf(os.Stderr, "\r%s: %d of %d ", what, n, openings)
				}
				return st.check()
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	used := (processorTime() - c.since).Seconds() / time.Since(started).Seconds() / float64(runtime.NumCPU())
	fmt.Fprintf(os.Stderr, "in %v, processors busy with it %.0f %%\n", time.Since(started).Round(time.Second), 100*used)
	return t, context.Cause(ctx)
}

// turn waits until an opening may begin. It is false if there are none left.
func (c *crowd) turn(ctx context.Context, openings int) bool {
	c.mu.Lock()
	if c.begun == openings || ctx.Err() != nil {
		c.mu.Unlock()
		return false
	}
	// Nothing is known of the first.
	interval := 50 * time.Millisecond
	if c.begun > 4 {
		interval = time.Duration(float64(processorTime()-c.since) / float64(c.begun) / busy / float64(runtime.NumCPU()))
	}
	c.begun++
	at := c.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	c.next = at.Add(interval)
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Until(at)):
		return true
	}
}

// processorTime is what this process has used, and those it has waited for.
func processorTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}
