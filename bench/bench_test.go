//go:build linux

package bench_test

import (
	"os"
	"path/filepath"
	"testing"
)

// A bench that no test runs rots: nobody has hours to run them all at each
// change.
func TestEveryBenchIsRunByATest(t *testing.T) {
	benches, err := filepath.Glob("*/main.go")
	if err != nil || len(benches) == 0 {
		t.Fatal("no benches", err)
	}
	for _, b := range benches {
		if _, err := os.Stat(filepath.Join(filepath.Dir(b), "main_test.go")); err != nil {
			t.Errorf("%s: %v: a TestRun there runs it briefly", b, err)
		}
	}
}
