package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
)

// TestOneSYN has tcpdump count what a knock puts on the wire, as an ordinary user
// makes it: one packet, and none that a system sends again.
func TestOneSYN(t *testing.T) {
	t.Parallel()
	// Nobody answers, and so a system would try again, the first time after a second.
	h := newHideout(t, "version: 1\nposture: closed\ndoors: {ssh: {service: tcp/22, knock: {sequence: [1234, 2345, udp/7061, 3456]}}}\n")
	program := filepath.Join(public(t), "postern")
	copyProgram(t, "/proc/self/exe", program)

	watch := h.tcpdump
	if !lab.RealRoot() {
		watch = h.capture
	}
	seen := watch(t)
	knock := h.command(t, program, "knock", "-q", "-d", "0", h.at.Addr4().String(), "1234", "2345", "7061:udp", "3456")
	knock.Env = nil
	if lab.RealRoot() { // elsewhere there is no other user to be
		knock.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	knock.Dir = "/"
	if got := h.finish(t, knock); got.status != 0 || got.talk != "" {
		t.Fatalf("exit status %d: %s", got.status, got.talk)
	}
	// A system's own timers run these 5 s, and no clock of ours moves them: it would send
	// again after 1 s, and after 3.
	time.Sleep(5 * time.Second)
	got := seen()
	if want := "1234 SYN\n2345 SYN\n7061 UDP\n3456 SYN\n"; got != want {
		t.Errorf("on the wire was\n%swant\n%s", got, want)
	}
}

// tcpdump writes down what tcpdump sees at the client: port and kind of what is for the
// server. Whatever else there is it leaves as it is.
func (h *hideout) tcpdump(t *testing.T) (seen func() string) {
	dump := h.client.Command(within(t, soon), "tcpdump", "-i", h.at.Peer.Name, "-n", "-l", "--immediate-mode", "-Z", "root", "tcp or udp")
	talk, err := dump.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := dump.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(talk); ; {
		if !lines.Scan() {
			t.Fatal("tcpdump does not listen")
		}
		if strings.HasPrefix(lines.Text(), "listening on") {
			break
		}
	}
	go io.Copy(io.Discard, talk)
	return func() string {
		dump.Process.Signal(os.Interrupt)
		seen, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		syn := regexp.MustCompile(`(?m)^.* IP 192\.0\.2\.1\.\d+ > 192\.0\.2\.2\.(\d+): Flags \[S\].*$`)
		udp := regexp.MustCompile(`(?m)^.* IP 192\.0\.2\.1\.\d+ > 192\.0\.2\.2\.(\d+): UDP, length 0$`)
		text := syn.ReplaceAllString(string(seen), "$1 SYN")
		return strings.TrimSpace(udp.ReplaceAllString(text, "$1 UDP")) + "\n"
	}
}

// capture does the same without tcpdump, which wants to become another user, and cannot
// in a user namespace.
func (h *hideout) capture(t *testing.T) (seen func() string) {
	c, err := h.at.Peer.Capture(func(p *packet.Packet) bool { return p.TCP != nil || p.UDP != nil })
	if err != nil {
		t.Fatal(err)
	}
	return func() string {
		all, err := c.Drain()
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, p := range all {
			switch {
			case p.UDP != nil && p.Out && len(p.Payload) == 0:
				fmt.Fprintln(&b, p.UDP.DstPort, "UDP")
			case p.TCP != nil && p.Out && p.TCP.Flags == packet.SYN:
				fmt.Fprintln(&b, p.TCP.DstPort, "SYN")
			default:
				fmt.Fprintln(&b, p)
			}
		}
		return b.String()
	}
}

// public is a folder that every user can look into.
func public(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "postern")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyProgram copies a program to a new file. Meanwhile this process starts no other: for a
// moment that would have the file open for writing, too, and what is can not be executed.
func copyProgram(t *testing.T, from, to string) {
	t.Helper()
	program, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(program)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
