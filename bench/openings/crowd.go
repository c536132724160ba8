//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"postern/bench/machine"
	"postern/internal/lab"
)

// A crowd makes many openings at once. An opening mostly waits, so one machine
// can play many clients; but when its processors are busy, the measurement
// shows their load. So openings start at even intervals that keep the
// processors idle for half of the time.
type crowd struct {
	subject *subject
	stands  []*stand

	mu    sync.Mutex
	left  int       // openings that have not started
	begun int       // openings that have
	next  time.Time // when the next may start
	since time.Duration
}

// busy is the share of the processors' time that openings may use.
const busy = 0.5

// newCrowd returns a crowd for a subject, with a stand for each member in one
// lab.
func newCrowd(ctx context.Context, l *lab.Lab, k *kit, s *subject, members int) (*crowd, error) {
	c := &crowd{subject: s}
	fmt.Fprintf(os.Stderr, "%s: building %d stands\n", s.name, members)
	for i := range members {
		st, err := newStand(ctx, l, k, fmt.Sprintf("%s%d", s.key, i), s, overNetwork(l, network{}.impairment(i)))
		if err != nil {
			return nil, err
		}
		c.stands = append(c.stands, st)
	}
	return c, nil
}

// run makes openings over a network, and returns their times and the load of
// the processors meanwhile.
func (c *crowd) run(ctx context.Context, n network, openings int) (t *tally, load machine.Load, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i, st := range c.stands {
		if err := st.relay.Impair(n.impairment(i)); err != nil {
			return nil, load, err
		}
	}
	c.left, c.begun, c.since = openings, 0, processorTime()
	t = &tally{}
	since := machine.Watch()
	started := time.Now()
	var all sync.WaitGroup
	for _, st := range c.stands {
		all.Go(func() {
			err := st.asClient(hidden, func() error {
				for c.turn(ctx) {
					if err := st.renew(c.subject.client); err != nil {
						return err
					}
					o, err := st.open(ctx, c.subject.client)
					if err != nil {
						return err
					}
					if c.subject.client != loop && !o.in { // for the loop this is expected
						fmt.Fprintf(os.Stderr, "\n%s: %s\n", c.subject.name, o.why)
					}
					progress(fmt.Sprintf("%s %s", n, c.subject.name), t.add(o), openings)
				}
				return st.check()
			})
			if err != nil {
				cancel(err)
			}
		})
	}
	all.Wait()
	load = since()
	fmt.Fprintf(os.Stderr, " in %.0f s, processors %d %% busy, %d %% stolen\n", time.Since(started).Seconds(), load.Busy, load.Stolen)
	return t, load, context.Cause(ctx)
}

// turn waits until an opening may start. It returns false if none is left.
func (c *crowd) turn(ctx context.Context) bool {
	c.mu.Lock()
	if c.left == 0 || ctx.Err() != nil {
		c.mu.Unlock()
		return false
	}
	interval := 50 * time.Millisecond // a first guess
	if c.begun > 4 {
		interval = pause(processorTime()-c.since, c.begun)
	}
	c.left--
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

// progress prints how far a measurement is, over what it printed before.
func progress(what string, done, of int) {
	fmt.Fprintf(os.Stderr, "\r%s: %d of %d", what, done, of)
}
