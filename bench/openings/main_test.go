//go:build linux

package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/firewall/bpf"
	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Every part runs, and on a network that loses nothing every opening succeeds. The how-to's
// loop sends each knock once, and the next within three seconds: on a busy machine it may
// have to try again.
func TestRun(t *testing.T) {
	before := limit
	limit = time.Minute
	defer func() { limit = before }()
	var out bytes.Buffer
	run := func(subject string) (ours, loops []bool) {
		t.Helper()
		out.Reset()
		b := &plan{openings: 1, workers: 1, subject: subject, out: &out}
		if err := b.run(t.Context(), "0/0/0", ""); err != nil {
			t.Fatal(err)
		}
		return succeeded(out.String())
	}
	ours, loops := run("")
	want := 2 + 2 + 1 + 3
	if bpf.Probe() == nil {
		want += 3 + len(attacks)
	}
	if len(ours) != want || slices.Contains(ours, false) || len(loops) != 2+2+2 {
		t.Fatalf("%v, want %d openings of Postern that succeeded, and 6 of the loop: %v, in:\n%s", ours, want, loops, out.String())
	}
	for again := 0; slices.Contains(loops, false); again++ {
		if again == 3 {
			t.Fatalf("some openings of the loop do not succeed: %v, in:\n%s", loops, out.String())
		}
		_, now := run("ncat")
		for i := range now {
			loops[i] = loops[i] || now[i]
		}
	}
}

// succeeded returns which openings of one each have succeeded, by Postern and by the
// how-to's loop, in the order of the report.
func succeeded(report string) (ours, loops []bool) {
	for line := range strings.Lines(report) {
		shares := share.FindAllString(line, -1)
		switch {
		case len(shares) == 0:
		case strings.Contains(line, "ncat loop"):
			loops = append(loops, shares[0] == all)
		case strings.HasPrefix(line, "   0      0     0"): // Postern's, if it is measured, and two loops
			for _, s := range shares[len(shares)-2:] {
				loops = append(loops, s == all)
			}
			if len(shares) > 2 {
				ours = append(ours, shares[0] == all)
			}
		default:
			ours = append(ours, shares[0] == all)
		}
	}
	return ours, loops
}

var share = regexp.MustCompile(`\d+\.\d %`)

const all = "100.0 %"
