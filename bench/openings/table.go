//go:build linux

package main

import (
	"context"
	"fmt"

	"postern/bench/machine"
	"postern/internal/lab"
)

// table measures all networks. It prints each row when it is complete.
func (b *plan) table(ctx context.Context) error {
	fmt.Fprintf(b.out, `%d openings each, %v round trip, loss, reordering and duplicates in percent each way.
A time is "-" if too few openings succeeded: half of them for the median, 99 %% for p99.

                          postern connect                             ncat loop,                    ncat loop,
                                                                   how-to's rules               Postern's rules
loss reord. dupl.       in    median       p99  1st try        in    median       p99        in    median       p99
`, b.openings, 2*delay)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := lab.New()
	defer l.Close()
	var crowds []*crowd
	for _, s := range []*subject{ours, loopAtHowto, loopAtOurs} {
		c := &crowd{subject: s}
		if b.measures(s) {
			var err error
			if c, err = newCrowd(ctx, l, b.kit, s, min(b.workers, b.openings)); err != nil {
				return err
			}
		}
		crowds = append(crowds, c)
	}
	for _, n := range b.networks {
		var worst machine.Load
		row := fmt.Sprintf("%4d %6d %5d", n.loss, n.reorder, n.duplicate)
		for _, c := range crowds {
			t := &tally{}
			if b.measures(c.subject) {
				var load machine.Load
				var err error
				if t, load, err = c.run(ctx, n, b.openings); err != nil {
					return err
				}
				worst = machine.Load{Busy: max(worst.Busy, load.Busy), Stolen: max(worst.Stolen, load.Stolen)}
			}
			row += fmt.Sprintf("  %7s %9s %9s", t.in(), t.percentile(50), t.percentile(99))
			if c.subject == ours {
				row += fmt.Sprintf("  %7s", t.atOnce())
			}
		}
		fmt.Fprintln(b.out, row+mark(worst))
	}
	return nil
}

// beside measures other clients and rules over one network.
func (b *plan) beside(ctx context.Context) error {
	n := b.one
	fmt.Fprintf(b.out, `%d openings each, %v round trip, %d %% loss, %d %% reordering

                                          in    median       p99  1st try
`, b.openings, 2*delay, n.loss, n.reorder)
	for _, s := range []*subject{ours, oursAgain, oursAtResets, loopAtHowto, loopAsHowto} {
		if !b.measures(s) {
			continue
		}
		err := func() error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			l := lab.New()
			defer l.Close()
			c, err := newCrowd(ctx, l, b.kit, s, min(b.workers, b.openings))
			if err != nil {
				return err
			}
			t, load, err := c.run(ctx, n, b.openings)
			if err != nil {
				return err
			}
			first := "-"
			if s.client != loop {
				first = t.atOnce()
			}
			fmt.Fprintf(b.out, "%-36s %7s %9s %9s  %7s%s\n", s.name, t.in(), t.percentile(50), t.percentile(99), first, mark(load))
			return nil
		}()
		if err != nil {
			return err
		}
	}
	return nil
}
