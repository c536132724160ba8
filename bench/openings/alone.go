//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"postern/bench/machine"
	"postern/internal/lab"
	"postern/internal/lab/impair"
)

// A layer builds the link between a server and a client.
type layer func(server, client *lab.Host, prefix string) (*lab.Link, *impair.Relay)

func overNetwork(l *lab.Lab, i impair.Impairment) layer {
	return func(server, client *lab.Host, prefix string) (*lab.Link, *impair.Relay) {
		_, atClient, relay := impair.Connect(l, server, client, i, prefix)
		return atClient, relay
	}
}

func overCable(l *lab.Lab) layer {
	return func(server, client *lab.Host, prefix string) (*lab.Link, *impair.Relay) {
		_, atClient := l.Connect(server, client, prefix)
		return atClient, nil
	}
}

// alone makes openings one after the other, each beside a plain connection. It
// returns the times of both, and the load of the processors meanwhile.
func (b *plan) alone(ctx context.Context, what string, st *stand, c *client, certs certificates, openings int) (opened, plain *tally, load machine.Load, err error) {
	opened, plain = &tally{}, &tally{}
	since := machine.Watch()
	err = st.asClient(certs, func() error {
		for range openings {
			if err := st.renew(c); err != nil {
				return err
			}
			took, err := st.roundTrip(ctx)
			if err != nil {
				return err
			}
			plain.add(outcome{in: true, took: took})
			o, err := st.open(ctx, c)
			if err != nil {
				return err
			}
			progress(what, opened.add(o), openings)
		}
		return st.check()
	})
	fmt.Fprintln(os.Stderr)
	return opened, plain, since(), err
}

// clean measures openings one at a time, without packet loss.
func (b *plan) clean(ctx context.Context) error {
	openings := max(1, b.openings/4)
	fmt.Fprintf(b.out, `One opening at a time, %d of each, no loss. Beside each a plain connection to an open port,
which takes one round trip:

round trip                                           in    median       p99  plain connection's median
`, openings)
	for _, row := range []struct {
		delay   time.Duration // one way
		subject *subject
		certs   certificates
		note    string
	}{
		{0, oursByKey, hidden, ""},
		{25 * time.Millisecond, oursByKey, hidden, ""},
		{delay, oursByKey, hidden, ""},
		{delay, ours, hidden, ""},
		{delay, oursAgain, hidden, ""},
		{delay, loopAtHowto, hidden, ""},
		{delay, loopAtHowto, visible, ", certificates read"},
	} {
		if !b.measures(row.subject) {
			continue
		}
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			l := lab.New()
			defer l.Close()
			lay := overCable(l)
			if row.delay > 0 {
				lay = overNetwork(l, impair.Impairment{Delay: row.delay})
			}
			st, err := newStand(ctx, l, b.kit, "alone", row.subject, lay)
			if err != nil {
				return err
			}
			opened, plain, load, err := b.alone(ctx, row.subject.name, st, row.subject.client, row.certs, openings)
			if err != nil {
				return err
			}
			fmt.Fprintf(b.out, "%5v  %-40s %7s %9s %9s  %9s%s\n", 2*row.delay, row.subject.name+row.note,
				opened.in(), opened.percentile(50), opened.percentile(99), plain.percentile(50), mark(load))
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}

// cpus measures knocks without gaps at a server that receives on several CPUs,
// and so may judge a packet on one while it judges the next on another.
func (b *plan) cpus(ctx context.Context) error {
	fmt.Fprintf(b.out, `Postern connect over a plain cable, one at a time, %d of each: packets received on one CPU, the
sender's, and on all.

                                          in  1st try    median       p99
`, b.openings)
	for _, steered := range []string{"", ", steered"} {
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			l := lab.New()
			defer l.Close()
			lay := overCable(l)
			st, err := newStand(ctx, l, b.kit, "alone", ours, func(server, client *lab.Host, prefix string) (*lab.Link, *impair.Relay) {
				if steered != "" {
					server.Steer()
				}
				return lay(server, client, prefix)
			})
			if err != nil {
				return err
			}
			opened, _, load, err := b.alone(ctx, ours.name+steered, st, ours.client, hidden, b.openings)
			if err != nil {
				return err
			}
			fmt.Fprintf(b.out, "%-36s %7s  %7s %9s %9s%s\n", ours.name+steered,
				opened.in(), opened.atOnce(), opened.percentile(50), opened.percentile(99), mark(load))
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}
