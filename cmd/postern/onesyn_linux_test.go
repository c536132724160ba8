package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/lab"
)

// TestOneSYN has tcpdump count what a knock puts on the wire, as an ordinary user
// makes it: one packet, and none that a system sends again.
func TestOneSYN(t *testing.T) {
	t.Parallel()
	// Nobody answers, and so a system would try again, the first time after a second.
	h := newHideout(t, "version: 1\nposture: closed\ndoors: {ssh: {service: tcp/22, knock: {sequence: [1234, 2345, udp/7061, 3456]}}}\n")
	program := filepath.Join(public(t), "postern")
	copyProgram(t, program)

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
		if regexp.MustCompile("^listening on").MatchString(lines.Text()) {
			break
		}
	}
	go io.Copy(io.Discard, talk)

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
	dump.Process.Signal(os.Interrupt)
	seen, err := io.ReadAll(out)
	if err != nil {
		t.Fatal(err)
	}
	// Whatever else it saw is there as well, as it is.
	short := regexp.MustCompile(`(?m)^.* IP 192\.0\.2\.1\.\d+ > 192\.0\.2\.2\.(\d+): (Flags \[S\]|UDP, length 0).*$`)
	got := strings.TrimSpace(short.ReplaceAllString(string(seen), "$1 $2"))
	if want := "1234 Flags [S]\n2345 Flags [S]\n7061 UDP, length 0\n3456 Flags [S]"; got != want {
		t.Errorf("tcpdump saw\n%s\nwant\n%s", got, want)
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

func copyProgram(t *testing.T, to string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, self); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
