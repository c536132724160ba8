package cli

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/cli/ui"
	"postern/internal/descriptor"
)

// TestHalves connects to services that end a connection in each way that there is.
// Whatever it is, all that was sent arrives, and nobody waits for ever.
func TestHalves(t *testing.T) {
	t.Parallel()
	h := newHideout(t, `
version: 1
posture: closed
log: {target: none}
doors:
  plain:
    service: [tcp/7001, tcp/7002, tcp/7003, tcp/7004, tcp/7005, tcp/7006, tcp/7007, tcp/7008, tcp/7009, tcp/7010]
    knock: {sequence: [1234, 2345, 3456]}
`)
	many := pattern(10 << 20) // far more than all buffers on the way hold
	flooded := make(chan error, 1)
	stuck := make(chan struct{})
	for i, service := range []struct {
		name  string
		serve func(*net.TCPConn)
	}{
		{"summing", func(c *net.TCPConn) { // answers only after the end of its input
			sum := sha256.New()
			io.Copy(sum, c)
			fmt.Fprintf(c, "%x\n", sum.Sum(nil))
		}},
		{"giving", func(c *net.TCPConn) { c.Write(many) }}, // and closes at once
		{"deaf", func(c *net.TCPConn) { // closes its reading side first
			c.Read(make([]byte, 1))
			c.CloseRead()
			c.Write(many)
		}},
		{"flooding", func(c *net.TCPConn) { // never stops
			_, err := io.Copy(c, endless{})
			flooded <- err
		}},
		{"resetting", func(c *net.TCPConn) {
			c.Read(make([]byte, 1))
			c.SetLinger(0)
		}},
		{"echoing", func(c *net.TCPConn) { io.Copy(c, c) }},
		{"urging", func(c *net.TCPConn) { // an urgent byte, which is no part of the stream
			io.WriteString(c, "first")
			urge(c)
			io.WriteString(c, "second")
		}},
		{"talking", func(c *net.TCPConn) { // hears nothing until it has said all
			c.Write(many)
			sum := sha256.New()
			io.Copy(sum, c)
			fmt.Fprintf(c, "%x\n", sum.Sum(nil))
		}},
		{"waiting", func(c *net.TCPConn) {
			io.WriteString(c, "ready\n")
			io.Copy(io.Discard, c)
		}},
		{"stuffing", func(c *net.TCPConn) { // until nobody takes more of it
			io.WriteString(c, "ready\n")
			for err := error(nil); err == nil; {
				c.SetWriteDeadline(time.Now().Add(time.Second))
				_, err = c.Write(many)
			}
			close(stuck)
			io.Copy(io.Discard, c)
		}},
	} {
		port := 7001 + i
		h.listen(t, port, service.serve)
		h.run(t, "postern", "add", service.name, "--address", h.at.Addr4().String(),
			"--port", fmt.Sprint(port), "--knock", "1234,2345,3456")
	}
	connect := func(name string) []string { return []string{"postern", "connect", "-q", name} }
	sum := func(b []byte) string { return fmt.Sprintf("%x\n", sha256.Sum256(b)) }

	// In each case the end of standard input is passed on, and the rest is awaited.
	for _, test := range []struct {
		name, service string
		in            io.Reader
		want          string
	}{
		{"an answer after the end of the input", "summing", bytes.NewReader(many), sum(many)},
		{"no input at all", "summing", strings.NewReader(""), sum(nil)},
		{"the last bytes, when the client has ended first", "giving", strings.NewReader(""), string(many)},
		{"the last bytes, to a service that heeds no end", "deaf", strings.NewReader("x"), string(many)},
		{"everything comes back", "echoing", bytes.NewReader(many), string(many)},
		{"what follows an urgent byte", "urging", strings.NewReader(""), "firstsecond"},
		{"both talk at once", "talking", bytes.NewReader(many), string(many) + sum(many)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := h.command(t, connect(test.service)...)
			cmd.Stdin = test.in
			expect(t, h.finish(t, cmd), outcome{test.want, "", 0})
		})
	}
	t.Run("an input that is a file", func(t *testing.T) {
		t.Parallel()
		path := h.path("many")
		if err := os.WriteFile(path, many, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd := h.command(t, connect("summing")...)
		cmd.Stdin = f
		expect(t, h.finish(t, cmd), outcome{sum(many), "", 0})
	})

	// Standard input stays open, as a terminal does.
	for _, test := range []struct {
		name, service string
		first         string // what is written there all the same
		want          outcome
	}{
		{"the last bytes, while the input stays open", "giving", "", outcome{string(many), "", 0}},
		{"the last bytes of one that hears no more", "deaf", "x", outcome{string(many), "", 0}},
		{"a reset", "resetting", "x", outcome{"", "broke off", ui.CodeFailed}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := h.command(t, connect(test.service)...)
			stdin, to, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			defer stdin.Close()
			io.WriteString(to, test.first)
			cmd.Stdin = stdin
			expect(t, h.finish(t, cmd), test.want)
		})
	}

	for _, test := range []struct {
		name, service string
		until         func()
	}{
		{"an interrupt while nothing is said", "waiting", func() { time.Sleep(2 * time.Second) }},
		{"an interrupt while nobody reads", "stuffing", func() { <-stuck }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := h.command(t, connect(test.service)...)
			startReady(t, cmd)
			test.until()
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != ui.CodeInterrupted {
				t.Errorf("exit status %d, want %d", code, ui.CodeInterrupted)
			}
			// Of a second and more in which there was nothing to do.
			if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); used > 700*time.Millisecond {
				t.Errorf("it used %v of the processor", used)
			}
		})
	}

	for what, script := range map[string]string{
		"stays open": "postern connect -q flooding < <(exec sleep 3 2>/dev/null) | head -c 10; exit ${PIPESTATUS[0]}",
		"is empty":   "postern connect -q flooding </dev/null | head -c 10; exit ${PIPESTATUS[0]}",
	} {
		t.Run("a reader that goes away, while the input "+what, func(t *testing.T) {
			t.Parallel()
			got := h.finish(t, h.command(t, "bash", "-c", script))
			expect(t, got, outcome{strings.Repeat("\x00", 10), "", 0})
			if err := <-flooded; err == nil {
				t.Error("the service was not told")
			}
		})
	}
}

// expect compares, but for what is said: that must hold the words given, or be nothing.
func expect(t *testing.T, got, want outcome) {
	t.Helper()
	if got.status != want.status || want.talk == "" && got.talk != "" || !strings.Contains(got.talk, want.talk) {
		t.Errorf("exit status %d, and says %q; want %d, %q", got.status, got.talk, want.status, want.talk)
	}
	if got.out != want.out {
		t.Errorf("%d bytes came, want %d (they begin with %.80q)", len(got.out), len(want.out), got.out)
	}
}

// pattern is as good as random, and the same every time.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}

// urge sends a byte out of band.
func urge(c *net.TCPConn) {
	descriptor.Use(c, func(fd int) error { return unix.Sendto(fd, []byte{'!'}, unix.MSG_OOB, nil) })
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
