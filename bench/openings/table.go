package main

import (
	"context"
	"fmt"
)

// table measures all networks. It prints each as soon as it is done.
func (b *plan) table(ctx context.Context) error {
	fmt.Printf(`%d openings each, %v round trip, loss, reordering and duplicates in percent each way.
A time that too few got in to tell is "-": half of them for the median, 99 %% for the other.

                          postern connect                             ncat loop,                    ncat loop,
                                                                   how-to's rules               Postern's rules
loss reord. dupl.       in    median       p99  1st try        in    median       p99        in    median       p99
`, b.openings, 2*delay)
	for _, n := range b.networks {
		row := fmt.Sprintf("%4d %6d %5d", n.loss, n.reorder, n.duplicate)
		for _, s := range []*subject{ours, loopAtHowto, loopAtOurs} {
			t := &tally{}
			if b.measures(s) {
				var err error
				if t, err = b.measure(ctx, n, s); err != nil {
					return err
				}
			}
			row += fmt.Sprintf("  %7s %9s %9s", t.in(), t.percentile(50), t.percentile(99))
			if s == ours {
				row += fmt.Sprintf("  %7s", t.atOnce())
			}
		}
		fmt.Println(row)
	}
	return nil
}

// beside measures other clients and rules over one network, that of the target.
func (b *plan) beside(ctx context.Context) error {
	n := network{loss: 5, reorder: 10}
	fmt.Printf(`%d openings each, %v round trip, %d %% loss, %d %% reordering

                                          in    median       p99  1st try
`, b.openings, 2*delay, n.loss, n.reorder)
	for _, s := range []*subject{ours, oursAgain, oursAtResets, loopAtHowto, loopAsHowto} {
		if !b.measures(s) {
			continue
		}
		t, err := b.measure(ctx, n, s)
		if err != nil {
			return err
		}
		first := "-"
		if s.client != loop {
			first = t.atOnce()
		}
		fmt.Printf("%-36s %7s %9s %9s  %7s\n", s.name, t.in(), t.percentile(50), t.percentile(99), first)
	}
	return nil
}
