//go:build linux

// Command openings measures how long it takes to open a door, and how often it
// succeeds, on networks that lose, duplicate and reorder packets: with postern
// connect, and with the how-to's loop around ncat.
//
// Nothing is simulated. Each opening is a process, started as a person would
// start it. Its packets pass through a lab's bad network, in real time, to a
// kernel with the rules in question. Many run at once, each between a client
// and a server of their own, as long as the processors are idle for half of the
// time.
//
// The time of an opening is measured from before the process starts until it
// reports that the connection is established. The opening counts as successful
// if that takes at most five seconds and the service's greeting arrives as
// well. Each comes from an address that the server has never seen and, unless
// noted, from a user who has never connected there.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"postern/bench"
	"postern/internal/firewall/bpf"
)

// A plan is what to measure, and how much.
type plan struct {
	openings int
	workers  int
	networks []network
	one      network // the network of the part beside
	subject  string  // only those whose name contains this
	kit      *kit
	out      io.Writer
}

// The parts, in the order in which they run.
var parts = []struct {
	name string
	run  func(*plan, context.Context) error
}{
	{"clean", (*plan).clean},
	{"cpus", (*plan).cpus},
	{"table", (*plan).table},
	{"beside", (*plan).beside},
	{"neighbours", (*plan).neighbours},
	{"flooded", (*plan).flooded},
}

func main() {
	b := &plan{out: os.Stdout}
	flag.IntVar(&b.openings, "openings", 1000, "openings in each cell of the tables")
	flag.IntVar(&b.workers, "workers", 32, "how many may be under way at the same time")
	flag.StringVar(&b.subject, "subject", "", "measure only what has this in its name")
	chosen := flag.String("network", "", `only this network of the table: loss/reorder/duplicates, like "5/10/0"`)
	part := flag.String("part", "", "only this part: clean, cpus, table, beside, neighbours, flooded")
	flag.Parse()
	bench.Main("openings", func(ctx context.Context) error { return b.run(ctx, *chosen, *part) })
}

func (b *plan) run(ctx context.Context, chosen, part string) error {
	b.networks = slices.DeleteFunc(networks(), func(n network) bool { return chosen != "" && n.String() != chosen })
	if len(b.networks) == 0 {
		return fmt.Errorf("network %q is not in the table: write loss/reorder/duplicates, like %q", chosen, "5/10/0")
	}
	b.one = network{loss: 5, reorder: 10}
	if chosen != "" {
		b.one = b.networks[0]
	}
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = p.name
	}
	if part != "" && !slices.Contains(names, part) {
		return fmt.Errorf("unknown part %q: the parts are %s", part, strings.Join(names, ", "))
	}
	folder, err := os.MkdirTemp("", "openings-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	if b.kit, err = newKit(folder); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w",
		"-o", filepath.Join(folder, "postern"), "postern/cmd/postern")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building postern: %w\n%s", err, out)
	}
	for _, p := range parts {
		if part != "" && p.name != part {
			continue
		}
		if err := p.run(b, ctx); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		fmt.Fprintln(b.out)
	}
	return nil
}

// measures reports whether a subject is selected, and can be measured here: the kernel
// may not be able to verify keys, or not let this user have it do so.
func (b *plan) measures(s *subject) bool {
	return strings.Contains(s.name, b.subject) && (s.rules != keyed || bpf.Probe() == nil) && (s != byFwknop || hasFwknop())
}
