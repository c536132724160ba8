package cli

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"postern/internal/cli/ui"
	"postern/internal/lab"
)

// Ctrl-C ends a verb with 130, whether it can be told to end or not.
func TestInterrupt(t *testing.T) {
	// This binary plays postern when it is called so; see TestMain.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "postern")
	if err := os.Symlink(self, program); err != nil {
		t.Fatal(err)
	}
	host := lab.NewT(t).Host("host")
	for _, test := range []struct {
		name string
		args []string
		says string // a line on standard error, after which it is interrupted
	}{
		{"between two knocks", []string{"knock", "--delay", "1h", "127.0.0.1", "1", "2"}, "postern: knock 1 of 2: tcp/1 of 127.0.0.1"},
		{"while it reads", []string{"check", "-f", "-"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), program, test.args...)
			stdin, err := cmd.StdinPipe() // which never ends
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := host.Do(cmd.Start); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(stderr)
			if test.says != "" && (!lines.Scan() || lines.Text() != test.says) {
				t.Fatalf("says %q, want %q", lines.Text(), test.says)
			}
			if test.says == "" {
				// It says nothing: it is reading once it has taken what there is.
				if _, err := stdin.Write(bytes.Repeat([]byte("#\n"), 100_000)); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if !lines.Scan() || lines.Text() != "postern: error: interrupted" {
				t.Errorf("says %q", lines.Text())
			}
			for lines.Scan() {
				t.Errorf("and says %q", lines.Text())
			}
			if exit, ok := errors.AsType[*exec.ExitError](cmd.Wait()); !ok || exit.ExitCode() != ui.CodeInterrupted {
				t.Errorf("ends with %v", exit)
			}
		})
	}
}
