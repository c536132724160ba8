//go:build linux

package lab_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
)

func TestCommand(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	l.Connect(a, b)

	out, err := a.Command(soon(t), "cat", "/proc/net/dev").Output()
	if err != nil || !strings.Contains(string(out), " b:") {
		t.Errorf("on host a there is no link to b: %v\n%s", err, out)
	}
	out, err = a.Command(soon(t), "sh", "-c", "echo out; echo err >&2; exit 3").Output()
	var exit *exec.ExitError
	if string(out) != "out\n" || !errors.As(err, &exit) || exit.ExitCode() != 3 || string(exit.Stderr) != "err\n" {
		t.Errorf("got %q and %v", out, err)
	}
	out, err = a.Command(soon(t), "sh", "-c", "echo out; echo err >&2").CombinedOutput()
	if string(out) != "out\nerr\n" || err != nil {
		t.Errorf("got %q and %v", out, err)
	}
	if err := a.Command(soon(t), "no-such-program").Run(); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want %v", err, exec.ErrNotFound)
	}
	if err := a.Command(soon(t), "true").Wait(); err == nil {
		t.Error("waited for a command that was not started")
	}
	t.Setenv("PATH", "/nonexistent")
	if out, err := a.Command(soon(t), "nft", "list", "ruleset").CombinedOutput(); err != nil {
		t.Errorf("a program in sbin: %v %s", err, out)
	}
}

// A command takes down with it what it has started: its output, which they
// share, would not end otherwise.
func TestCommandEnds(t *testing.T) {
	for name, end := range map[string]func(l *lab.Lab, cancel func()){
		"its context": func(_ *lab.Lab, cancel func()) { cancel() },
		"the lab":     func(l *lab.Lab, _ func()) { l.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			l := lab.NewT(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			cmd := l.Host("a").Command(ctx, "sh", "-c", "sleep 1000 & echo started; sleep 1000")
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 100)
			n, err := stdout.Read(b)
			if string(b[:n]) != "started\n" {
				t.Fatalf("got %q, %v", b[:n], err)
			}
			ended := make(chan bool)
			go func() {
				defer close(ended)
				stdout.Read(b)
			}()
			end(l, cancel)
			select {
			case <-ended:
			case <-time.After(5 * time.Second):
				t.Error("still running after 5 s")
			}
			cmd.Wait()
		})
	}
}
