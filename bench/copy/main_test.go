//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"postern/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Every way to copy brings the whole file, in each direction.
func TestRun(t *testing.T) {
	if !lab.RealRoot() {
		t.Skip("sshd cannot log anyone in within a user namespace")
	}
	var out bytes.Buffer
	if err := run(t.Context(), 100_000, 1, 0, "", &out); err != nil {
		t.Fatal(err)
	}
	for _, d := range directions {
		if !strings.Contains(out.String(), "\n"+d.name) {
			t.Errorf("no row of %q in:\n%s", d.name, out.String())
		}
	}
}
