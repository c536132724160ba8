//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"postern/internal/lab"
)

// Three groups are sampled in turn: the one case, the other, and the other once
// more, as a control.
const groups = 3

// samples are the times of one class, by group.
type samples struct {
	answer, call [groups][]int64
	silent       int // trials without an answer
}

// measure adds n samples to each group. The groups take turns in random order.
func (s *stand) measure(ctx context.Context, c class, n int, pause time.Duration, out *samples) error {
	if !c.rare {
		pause = 0
	}
	for g := range groups {
		out.answer[g] = slices.Grow(out.answer[g], n)
		out.call[g] = slices.Grow(out.call[g], n)
	}
	silent := out.silent
	runtime.GC()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var ports [groups]uint16 // the wrong one of each
	var filled [2][]probe
	try := func(g int) (times, error) {
		if c.scan {
			if err := s.scan(c.source); err != nil {
				return times{}, err
			}
		}
		before, timed := c.before, c.timed
		if g > 0 {
			before, timed = c.beforeOther, c.timedOther
		}
		filled[0] = fill(filled[0], before, ports[g])
		filled[1] = fill(filled[1], timed, ports[g])
		return s.try(c.source.next(), filled[0], filled[1])
	}
	order := [groups]int{0, 1, 2}
	err := lab.OnCPU(0, func() error {
		for i := range n {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// A wrong port is tried as often as a knock, one time in three, so that
			// it is as much in the processor's caches: each group has one of its own
			// for some time, and the first time does not count. They are many in all,
			// as each has its place in the kernel's tables.
			if i%max(1, n/wrongPorts) == 0 {
				for g := range ports {
					ports[g] = s.wrongPort()
				}
				for g := range ports {
					if _, err := try(g); err != nil && !errors.Is(err, errSilent) {
						return err
					}
				}
			}
			// A pause is filled with trials that do not count, so that nothing
			// gets cold.
			for until := time.Now().Add(pause); pause > 0 && time.Now().Before(until); {
				if _, err := s.try(c.source.next(), nil, syn(allowed)); err != nil && !errors.Is(err, errSilent) {
					return err
				}
			}
			rand.Shuffle(groups, func(i, j int) { order[i], order[j] = order[j], order[i] })
			for _, g := range order {
				t, err := try(g)
				switch {
				case errors.Is(err, errSilent):
					out.silent++
					continue
				case err != nil:
					return err
				}
				if c.pair {
					t.answer = t.gap
				}
				out.answer[g] = append(out.answer[g], t.answer)
				out.call[g] = append(out.call[g], t.call)
			}
		}
		return nil
	})
	if err == nil {
		err = s.lost()
	}
	if silent = out.silent - silent; err == nil && silent > groups*n/10 {
		err = fmt.Errorf("%d of %d trials had no answer", silent, groups*n)
	}
	return err
}

// wrongPorts is how many wrong ports are used in turn.
const wrongPorts = 50

// fill returns probes with a port in place of each wrong one.
func fill(into, probes []probe, port uint16) []probe {
	into = append(into[:0], probes...)
	for i := range into {
		if into[i].port == wrong {
			into[i].port = port
		}
	}
	return into
}

// A row is a class's line of the table.
type row struct {
	class
	*samples
}

// table returns what the samples of a stand show.
func table(rows []row) string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tanswer\tcontrol\tns\tcall\tcontrol\tns\t± ")
	for _, r := range rows {
		name := r.name
		if r.public {
			name += " (public)"
		}
		cell := func(of [groups][]int64) string {
			return fmt.Sprintf("%.3f\t%.3f\t%+d", auc(of[0], of[1]), auc(of[2], of[1]), median(of[0])-median(of[1]))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.3f", name, cell(r.answer), cell(r.call), aucError(len(r.answer[0]), len(r.answer[1])))
		if r.silent > 0 {
			fmt.Fprintf(w, " %d silent", r.silent)
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n")
}
