//go:build linux

package main

import (
	"context"
	"fmt"
	"io"

	"postern/internal/lab"
)

// steadyTurns is how often a steady flood is measured: it takes seconds to
// become steady.
const steadyTurns = 3

// run measures everything and writes the tables to out.
func (p *plan) run(ctx context.Context, out, progress io.Writer) error {
	l := lab.New()
	defer l.Close()
	var stands []*stand
	for i, s := range p.subjects {
		fmt.Fprintf(progress, "loading %s\n", s)
		stand, err := newStand(ctx, l, fmt.Sprint(i), s)
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		stands = append(stands, stand)
	}
	watch, err := newStopwatch(stands[0], progress)
	if err != nil {
		return err
	}
	results := make([]*result, len(stands))
	for i := range stands {
		results[i] = newResult()
	}
	every := max(1, p.rounds/steadyTurns)
	for round := range p.rounds {
		for _, w := range p.traffic {
			if w.steady && (round%every != 0 || round/every >= steadyTurns) {
				continue
			}
			fmt.Fprintf(progress, "\rround %d of %d: %s\x1b[K", round+1, p.rounds, w.name)
			for i := range stands {
				// Another order each round, so that no rule set always follows
				// the same one.
				i = (i + round) % len(stands)
				if err := ctx.Err(); err != nil {
					return err
				}
				m, err := p.measure(watch, stands[i], w)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", stands[i], w.name, err)
				}
				results[i].add(w, m)
			}
		}
	}
	fmt.Fprintln(progress)
	io.WriteString(out, costs(watch, p.traffic, stands, results))
	io.WriteString(out, floods(p.traffic, stands, results))
	return nil
}
