//go:build linux

// Command packets measures the cost of a packet under Postern, compared with a
// plain stateful firewall and with the how-to's own iptables rules, in one run.
//
// A sender sends packets over a virtual cable as fast as it can. The kernel
// passes each through the other end's rules on the same CPU before the next,
// in the time of the sender's thread. So the thread's processor time per packet
// is the sender's share, the same for all, plus that of the rules, and of
// building and sending an answer. The other end of the cable throws answers
// away.
//
// Machines differ and are shared: what counts is the ratio to the plain
// firewall under the same traffic. All rule sets take turns in many short
// measurements.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"postern/bench"
	"postern/internal/firewall/nftables"
)

// A plan is what to measure, and how much.
type plan struct {
	rounds   int
	packets  int           // in one measurement
	warmUp   time.Duration // of a flood from forged sources, until its state is steady
	lasts    time.Duration // that the steady flood is measured
	subjects []*subject
	traffic  []*workload
}

func main() {
	p := &plan{warmUp: 4 * time.Second, lasts: time.Second}
	flag.IntVar(&p.rounds, "rounds", 60, "how often each measurement is made; floods from forged sources less often")
	flag.IntVar(&p.packets, "packets", 2000, "packets in one measurement")
	rules := flag.String("rules", "", "measure only rule sets with one of these in their names, and the plain firewall: \"how-to,guard\"")
	traffic := flag.String("traffic", "", "send only these kinds of traffic: \"scan,knock,knock6\"")
	fill := flag.Bool("memory", true, "fill the tables and see what memory they take")
	flag.Parse()
	bench.Main("packets", func(ctx context.Context) (err error) {
		p.subjects = subjects(*rules, largeToo, os.Stderr)
		if p.traffic, err = chooseTraffic(*traffic); err != nil {
			return err
		}
		if err = p.run(ctx, os.Stdout, os.Stderr); err != nil || !*fill {
			return err
		}
		fmt.Println()
		// Twice the size of the table: some sources share a spent budget.
		return memory(ctx, 2*nftables.MaxProgress, 500*time.Millisecond, os.Stdout)
	})
}
