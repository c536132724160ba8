//go:build linux

// Command packets measures the cost of a packet under Postern, compared with a
// plain stateful firewall and with the how-to's own iptables rules, in one run.
//
// A sender sends packets over a virtual cable as fast as it can. The kernel
// passes each through the other end's rules on the same CPU before the next. So
// the time per packet is the sender's share, the same for all, plus that of the
// rules. Machines differ and are shared: what counts is the ratio to the plain
// firewall. All rule sets take turns, in many short measurements, and the lower
// quartile of each is compared: other load on the machine only ever adds time.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"text/tabwriter"

	"postern/internal/lab"
)

func main() {
	rounds := flag.Int("rounds", 100, "how often each measurement is made")
	packets := flag.Int("packets", 4000, "packets in one measurement")
	only := flag.String("only", "", "measure only the rule sets whose names contain this, and the plain firewall")
	noMemory := flag.Bool("no-memory", false, "do not fill the tables to see what they cost")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := lab.Enter()
	if err == nil {
		err = run(ctx, *rounds, *packets, *only)
	}
	if err == nil && !*noMemory {
		fmt.Println()
		err = memory(ctx)
	}
	if ctx.Err() != nil {
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "packets: error:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, packets int, only string) error {
	subjects := subjects(only)
	l := lab.New()
	defer l.Close()
	var stands []*stand
	for _, s := range subjects {
		fmt.Fprintf(os.Stderr, "loading %s\n", s.name)
		stand, err := newStand(ctx, l, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		stands = append(stands, stand)
	}
	results := make([]*result, len(stands))
	for i := range stands {
		results[i] = &result{}
	}
	for round := range rounds {
		fmt.Fprintf(os.Stderr, "\rround %d of %d ", round+1, rounds)
		for i := range stands {
			// Another order each round, so that no rule set always follows the
			// same one.
			i = (i + round) % len(stands)
			for _, w := range workloads {
				if w.flood > 0 && round%4 != 0 {
					continue // a flood takes long to start
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				t, err := w.measure(stands[i], packets)
				if err != nil {
					return fmt.Errorf("%s: %s: %w", stands[i].name, w.name, err)
				}
				results[i].add(w, t)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	fmt.Print(table(stands, results))
	return nil
}

// table returns the ratios to the plain firewall's random scan.
func table(stands []*stand, results []*result) string {
	var b bytes.Buffer
	plain := results[0]
	fmt.Fprintf(&b, "Cost of a packet, the sender's share included, as a ratio to a random scan of a plain\n"+
		"stateful firewall (%.2f µs here). Lower quartiles of %d measurements.\n\n", plain.quartile(scan).Seconds()*1e6, len(plain.times[scan]))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "rules")
	for _, load := range workloads {
		fmt.Fprint(w, "\t", load.name)
	}
	fmt.Fprintln(w)
	for i, s := range stands {
		fmt.Fprint(w, s.name)
		for _, load := range workloads {
			if len(results[i].times[load]) == 0 {
				fmt.Fprint(w, "\t-")
				continue
			}
			fmt.Fprintf(w, "\t%.2f", float64(results[i].quartile(load))/float64(plain.quartile(scan)))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return b.String()
}

var errShort = errors.New("not all packets were sent")
