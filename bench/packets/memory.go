//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"postern/bench"
	"postern/internal/automaton"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
)

// memory sends first knocks of that many forged sources to the table of progress
// of each family, and prints how much kernel memory that takes. The step timeout
// is an hour, so that no entry expires meanwhile. The pause is for what the kernel
// does in the background: half a second, or shorter where the figure means nothing.
func memory(ctx context.Context, sources int, pause time.Duration, out io.Writer) error {
	l := lab.New()
	defer l.Close()
	s, err := newStand(ctx, l, "m", &subject{
		name: "memory",
		load: bench.LoadPolicy(backends.Default(), fmt.Sprintf("version: 1\nposture: closed\ndoors:\n"+
			"  a: {service: 22, knock: {sequence: [%d, 2345], step_timeout: 1h}}\n", first), automaton.Keyring{}),
	})
	if err != nil {
		return err
	}
	if err := settle(ctx, pause); err != nil {
		return err
	}
	fmt.Fprint(out, "Kernel memory of a full table of progress:\n\n")
	for _, family := range []family{ipv4, ipv6} {
		if err := s.fill(ctx, family, sources, pause, out); err != nil {
			return err
		}
	}
	return nil
}

// fill sends a first knock of each source, and prints by how much the kernel's
// memory has grown.
func (s *stand) fill(ctx context.Context, f family, sources int, pause time.Duration, out io.Writer) error {
	before, err := kernelMemory()
	if err != nil {
		return err
	}
	const batch = 512
	knock := &workload{packet: forging(f, firstKnock)}
	for range (sources + batch - 1) / batch {
		if _, err := s.burst(stopwatch{dayTime}, knock, batch); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	time.Sleep(2 * pause) // the kernel frees old hash tables in the background
	after, err := kernelMemory()
	if err != nil {
		return err
	}
	// Each came from another source and added an entry if there was room.
	elements := min(sources, nftables.MaxProgress)
	fmt.Fprintf(out, "    IPv%d  %9d sources  %4d MB  %d bytes each\n", f, elements, (after-before)>>20, (after-before)/elements)
	return nil
}

// settle waits until the kernel has freed the memory of the measured hosts,
// which it does in the background: until little changes in four pauses, or for
// twenty on a machine where other programs go on changing it.
func settle(ctx context.Context, pause time.Duration) error {
	before, err := kernelMemory()
	for waits, quiet := 0, 0; waits < 20 && quiet < 4 && err == nil; waits++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		var now int
		now, err = kernelMemory()
		if quiet++; max(now-before, before-now) > 1<<20 {
			quiet = 0
		}
		before = now
	}
	return err
}

// kernelMemory returns the memory that the kernel uses itself, in bytes.
func kernelMemory() (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	total := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "SUnreclaim", "VmallocUsed", "Percpu":
			var kb int
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				return 0, fmt.Errorf("/proc/meminfo: %s: %w", name, err)
			}
			total += kb << 10
		}
	}
	return total, lines.Err()
}
