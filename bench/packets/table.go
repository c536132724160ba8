//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A result is all measurements of one stand.
type result struct{ of map[*workload][]measurement }

func newResult() *result { return &result{map[*workload][]measurement{}} }

func (r *result) add(w *workload, m measurement) { r.of[w] = append(r.of[w], m) }

// packet returns the time of a packet: the mean of the lower half. Other programs
// only ever add to a thread's time, by caches that are cold after them and by
// interrupts. So this repeats twice as well as the median.
func (r *result) packet(w *workload) time.Duration {
	var times []time.Duration
	for _, m := range r.of[w] {
		times = append(times, m.packet)
	}
	slices.Sort(times)
	times = times[:(len(times)+1)/2]
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	return sum / time.Duration(len(times))
}

// rate returns the highest number of packets a second in a steady flood.
func (r *result) rate(w *workload) float64 {
	highest := 0.0
	for _, m := range r.of[w] {
		highest = max(highest, m.rate)
	}
	return highest
}

// workers returns the shortest time that the kernel's threads worked for a
// packet: what they do for others is in all of them.
func (r *result) workers(w *workload) time.Duration {
	shortest := r.of[w][0].workers
	for _, m := range r.of[w] {
		shortest = min(shortest, m.workers)
	}
	return shortest
}

// costs returns the tables of ratios to the plain firewall, as they stand in
// docs/measurements.md. Traffic to the port of keys has one of its own.
func costs(watch stopwatch, traffic []*workload, stands []*stand, results []*result) string {
	var b strings.Builder
	plain := results[0]
	fmt.Fprintf(&b, "The sender's %s for a packet, as a multiple of what the plain firewall\ntakes for it: means of the lower half of %d.\n",
		watch, len(plain.of[traffic[0]]))
	for _, keys := range []bool{false, true} {
		columns := slices.DeleteFunc(slices.Clone(traffic), func(w *workload) bool { return w.keys != keys })
		if len(columns) == 0 {
			continue
		}
		line := func(name string, cell func(w *workload) string) {
			fmt.Fprintf(&b, "    %-18s", name)
			for _, w := range columns {
				fmt.Fprintf(&b, " %*s", max(4, len(w.name)), cell(w))
			}
			b.WriteByte('\n')
		}
		b.WriteByte('\n')
		line("", func(w *workload) string { return w.name })
		line("plain firewall, ns", func(w *workload) string { return fmt.Sprint(plain.packet(w).Nanoseconds()) })
		group := ""
		for i, s := range stands {
			if s.group != group {
				group = s.group
				fmt.Fprintf(&b, "\n    %s:\n", group)
			}
			line(s.name, func(w *workload) string {
				return fmt.Sprintf("%.2f", ratio(results[i].packet(w), plain.packet(w)))
			})
		}
	}
	return b.String()
}

// floods returns the table of what steady floods are like and leave to the
// kernel's own threads.
func floods(traffic []*workload, stands []*stand, results []*result) string {
	traffic = slices.DeleteFunc(slices.Clone(traffic), func(w *workload) bool { return !w.steady })
	if len(traffic) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nFloods from forged sources: packets a second, and the time of the kernel's workers\n" +
		"for a packet in the same unit, the least of all turns.\n\n")
	fmt.Fprintf(&b, "    %-26s", "")
	for _, w := range traffic {
		fmt.Fprintf(&b, " %7s workers", w.name)
	}
	b.WriteByte('\n')
	for i, s := range stands {
		fmt.Fprintf(&b, "    %-26s", s)
		for _, w := range traffic {
			fmt.Fprintf(&b, " %7.0f %7.2f", results[i].rate(w), ratio(results[i].workers(w), results[0].packet(w)))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }
