//go:build linux

package main

import (
	"bytes"
	"regexp"
	"testing"

	"postern/internal/firewall/bpf"
	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Every part runs, and on a network that loses nothing every opening succeeds.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	b := &plan{openings: 1, workers: 1, out: &out}
	if err := b.run(t.Context(), "0/0/0", ""); err != nil {
		t.Fatal(err)
	}
	succeeded := regexp.MustCompile(`(?m)^.{36,} 100\.0 %`).FindAllString(out.String(), -1)
	want := 4 + 2 + 1 + 5
	if bpf.Probe() == nil {
		want += 3 + len(attacks)
	}
	if len(succeeded) != want {
		t.Errorf("%d rows of openings that succeeded, want %d, in:\n%s", len(succeeded), want, out.String())
	}
}
