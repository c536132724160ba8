//go:build linux

package labtest

import (
	"bufio"
	"os"
	"testing"
	"time"

	"postern/internal/lab"
)

// KillAfter starts a process and kills it so long after it has said some lines, which are
// all that it has said until then.
func KillAfter(t *testing.T, p *lab.Cmd, after time.Duration, lines ...string) {
	t.Helper()
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stderr = os.Stderr
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(stdout)
	for _, want := range lines {
		if line, err := said.ReadString('\n'); err != nil || line != want+"\n" {
			t.Fatalf("the process to be killed says %q (%v), want %q", line, err, want)
		}
	}
	time.Sleep(after)
	if err := p.Process.Kill(); err != nil {
		t.Fatalf("the process to be killed has ended by itself: %v", err)
	}
	p.Wait()
}
