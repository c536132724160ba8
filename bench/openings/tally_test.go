//go:build linux

package main

import (
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	of := func(in, at, out int) *tally { // at: how many of those in succeeded with the first try
		tl := &tally{}
		for i := range in {
			// 1 ms, 2 ms, ..., not in this order.
			tl.add(outcome{in: true, took: time.Duration(1+(i*13+3)%in) * time.Millisecond, atOnce: i < at})
		}
		for range out {
			tl.add(outcome{})
		}
		return tl
	}
	for _, test := range []struct {
		in, at, out                   int
		share, atOnce, median, latest string
	}{
		{0, 0, 0, "-", "-", "-", "-"},
		{1, 1, 0, "100.0 %", "100.0 %", "1.0 ms", "1.0 ms"},
		{100, 90, 0, "100.0 %", "90.0 %", "50.0 ms", "99.0 ms"},
		{1000, 999, 0, "100.0 %", "99.9 %", "500 ms", "990 ms"},
		{99, 0, 1, "99.0 %", "0.0 %", "50.0 ms", "99.0 ms"},
		{98, 0, 2, "98.0 %", "0.0 %", "50.0 ms", "-"},
		{50, 0, 50, "50.0 %", "0.0 %", "50.0 ms", "-"},
		{49, 49, 51, "49.0 %", "49.0 %", "-", "-"},
		{0, 0, 3, "0.0 %", "0.0 %", "-", "-"},
		// One failure in 20,000 must show: it is not 100 %.
		{19999, 19999, 1, "99.9 %", "99.9 %", "10000 ms", "19800 ms"},
	} {
		tl := of(test.in, test.at, test.out)
		for _, c := range []struct{ what, got, want string }{
			{"share", tl.in(), test.share}, {"at once", tl.atOnce(), test.atOnce},
			{"median", tl.percentile(50), test.median}, {"99th percentile", tl.percentile(99), test.latest},
		} {
			if c.got != c.want {
				t.Errorf("%d in, %d not: %s %s, want %s", test.in, test.out, c.what, c.got, c.want)
			}
		}
	}
}

func TestIsOpen(t *testing.T) {
	for line, want := range map[string]int{
		"postern: server is open, after 88ms: 10.0.0.1:22":                   1,
		"postern: server is open, at the 2nd try, after 312ms: 10.0.0.1:22":  2,
		"postern: server is open, at the 13th try, after 4.1s: 10.0.0.1:22":  13,
		"postern: server is open, at some other try, after 4s: 10.0.0.1:22":  0, // not a form that it knows
		"postern: error: tcp/22 of 10.0.0.1 does not answer, after 3 rounds": 0,
	} {
		tries, ok := isOpen(line)
		if ok != (want > 0) || ok && tries != want {
			t.Errorf("%q: %d, %v, want %d", line, tries, ok, want)
		}
	}
}

func TestNetworks(t *testing.T) {
	seen := map[string]bool{}
	for _, n := range networks() {
		seen[n.String()] = true
	}
	if len(seen) != 24 || !seen["0/0/0"] || !seen["5/10/0"] || !seen["10/30/2"] {
		t.Errorf("%d networks: %v", len(seen), seen)
	}
	if got := (network{5, 10, 2}).impairment(7); got.Loss != 0.05 || got.Reorder != 0.1 || got.Duplicate != 0.02 || got.Seed == 0 {
		t.Errorf("got %+v", got)
	}
}
