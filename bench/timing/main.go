//go:build linux

// Command timing measures what the time of an answer tells a neighbour about
// who has knocked, and walks a sequence by it if it can.
//
// The attacker is at the other end of a virtual cable. Its thread runs the
// server's whole receive path within the call that sends, so there is no better
// place to measure from. It sends from fresh sources, so that no budget of
// first knocks applies.
//
// For each class of secrets, as "knock 1 or a wrong port", it times the same
// answer in both cases, in random order. AUC is the probability that a time of
// the one case is longer than one of the other: 0.5 tells nothing, 1
// everything. The control compares the other case with itself. "answer" is the
// time until the answer left the server; "call" has what the server did
// afterwards as well, which delays the answer to a packet close behind.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"postern/bench"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

func main() {
	n := flag.Int("samples", 20000, "samples a side for each class of secrets; 0 measures none")
	secrets := flag.Int("secrets", 10, "how many random sequences share the samples")
	attackFor := flag.Duration("attack", 0, "also look for a random sequence by timing, in each variant for so long")
	runs := flag.Int("runs", 1, "how often to attack each variant")
	only := flag.String("only", "", "only the variants whose names contain this: backend, posture, cover")
	classes := flag.String("class", "", "measure only the classes whose names contain this")
	source := flag.String("source", string(net48), "attack from fresh \"/48s\", \"/64s\" of one /48, \"addresses\" of one /64, \"IPv4\" or \"one IPv4\"")
	udp := flag.Bool("udp", false, "attack a sequence of UDP knocks")
	flag.Parse()
	bench.Main("timing", func(ctx context.Context) error {
		return run(ctx, options{*n, *secrets, *attackFor, *runs, *only, *classes, sourceKind(*source), *udp, rarePause}, os.Stdout, os.Stderr)
	})
}

// Rare trials are so long apart that each may be logged: a rule logs 10 packets
// a second, and there may be three to log in a round. There are fewer of them.
const (
	rarePause = 350 * time.Millisecond
	rareness  = 400
)

type options struct {
	samples       int
	secrets       int
	attack        time.Duration
	runs          int
	only, classes string
	source        sourceKind
	udp           bool
	pause         time.Duration // before each rare trial
}

func run(ctx context.Context, o options, out, progress io.Writer) error {
	if !slices.Contains(sourceKinds, o.source) {
		return fmt.Errorf("-source %s: want one of %q", o.source, sourceKinds)
	}
	if o.samples > 0 {
		fmt.Fprintf(out, "What times tell: AUC (0.5: nothing), that of a control, and the difference of\n"+
			"the medians in ns. %d samples a side, of %d secrets; ±: standard error of an AUC.\n", o.samples, o.secrets)
	}
	chosen := variants(o.only)
	if len(chosen) == 0 {
		return errors.New("no variant is called so")
	}
	for _, v := range chosen {
		if o.samples == 0 {
			break
		}
		if err := measureAll(ctx, v, o, out, progress); err != nil {
			return fmt.Errorf("%s: %w", v, err)
		}
	}
	for _, v := range chosen {
		for range o.runs {
			if o.attack == 0 {
				break
			}
			if err := attackOne(ctx, v, o, out, progress); err != nil {
				return fmt.Errorf("%s: %w", v, err)
			}
		}
	}
	return nil
}

// variants returns those whose names contain a text.
func variants(only string) []variant {
	var chosen []variant
	for _, b := range backends.All() {
		for _, posture := range []policy.Posture{policy.Guard, policy.Closed} {
			for _, cover := range policy.Covers() {
				if v := (variant{b, posture, cover}); strings.Contains(v.String(), only) {
					chosen = append(chosen, v)
				}
			}
		}
	}
	return chosen
}

// measureAll measures a variant with several secrets, one after the other. Each has its
// places in the kernel's tables, where it has a neighbour or none, as a wrong port has. So
// one secret alone is told from most wrong ports by some nanoseconds, this way or that.
func measureAll(ctx context.Context, v variant, o options, out, progress io.Writer) error {
	var rows []row
	var knock, decoy candidate // all secrets' first knocks, in a crowd, and the decoys there
	for i := range o.secrets {
		err := func() error {
			s, err := newStand(ctx, v, randomSecret(false))
			if err != nil {
				return err
			}
			defer s.close()
			for at, c := range s.classes() {
				if i == 0 {
					rows = append(rows, row{c, &samples{}})
				}
				if !strings.Contains(c.name, o.classes) {
					continue
				}
				fmt.Fprintf(progress, "%s, secret %d of %d: %s\n", v, i+1, o.secrets, c.name)
				n := o.samples
				switch {
				case c.rare:
					n /= rareness
				case c.scan:
					n /= 10
				}
				if err := s.measure(ctx, c, max(1, n/o.secrets), o.pause, rows[at].samples); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			if strings.Contains(inCrowd, o.classes) {
				fmt.Fprintf(progress, "%s, secret %d of %d: %s\n", v, i+1, o.secrets, inCrowd)
				return s.crowd(ctx, max(1, o.samples/10/o.secrets), &knock, &decoy)
			}
			return nil
		}()
		if err != nil {
			return err
		}
	}
	rows = slices.DeleteFunc(rows, func(r row) bool { return len(r.answer[0]) == 0 })
	fmt.Fprintf(out, "\n%s\n\n%s", v, table(rows))
	for _, c := range []*candidate{&knock, &decoy} {
		if c.trials == 0 {
			continue
		}
		name := "knock 1"
		if c == &decoy {
			name = "a decoy"
		}
		fmt.Fprintf(out, "%s, %s: itself %.3f, again %.3f, idle %.3f, behind it %.3f; ± %.3f\n", inCrowd, name, c.mean(0)+.5,
			c.mean(1)+.5, c.mean(2)+.5, c.mean(3)+.5, math.Sqrt(1/12.0/float64(c.trials)))
	}
	return nil
}

// attackOne attacks a server with three random knocks.
func attackOne(ctx context.Context, v variant, o options, out, progress io.Writer) error {
	s, err := newStand(ctx, v, randomSecret(o.udp))
	if err != nil {
		return err
	}
	defer s.close()
	limited, cancel := context.WithTimeout(ctx, o.attack)
	defer cancel()
	began := time.Now()
	a := &attack{stand: s, source: o.source, candidates: everyPort(o.udp), log: progress}
	found, err := a.run(limited)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fmt.Fprintf(progress, "the sequence is %v\n", s.knocks)
	if found != nil && !slices.Equal(found, s.knocks) {
		return fmt.Errorf("found %v, the sequence is %v", found, s.knocks)
	}
	fmt.Fprintln(out, a.result(found, s.knocks, time.Since(began)))
	return nil
}
