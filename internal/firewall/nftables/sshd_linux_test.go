package nftables

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/lab/openssh"
)

// TestSSH puts OpenSSH behind the recipe's door, and logs in as users do.
func TestSSH(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := howto(t)
	s.Apply(m)
	keys := t.TempDir()
	server, err := openssh.Start(t.Context(), s.Gateway, 22, keys)
	if err != nil {
		t.Fatal(err)
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		at := labtest.On(s.Gate, f)
		if got := banner(s, t, at); got != "" {
			t.Errorf("without knocks sshd says %q", got)
		}
		s.realKnocks(t, at)
		if got := banner(s, t, at); !strings.HasPrefix(got, "SSH-2.0-OpenSSH") {
			t.Errorf("after the knocks sshd says %q", got)
		}
		if !lab.RealRoot() {
			t.Skip("sshd cannot become another user in a user namespace: run this as root to see a login")
		}

		// A session of which we hold the other end.
		s.realKnocks(t, at)
		first := ssh(s, t, server, at, "echo in; read line; echo you said: $line")
		in, err := first.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := first.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if got, err := lines.ReadString('\n'); err != nil || got != "in\n" {
			t.Fatalf("the session says %q (%v)", got, err)
		}
		if n := s.granted(labtest.On(s.Outside, f)); n != 0 {
			t.Errorf("the session has left %d grants", n)
		}

		// The used grant admits no second login, not even from there.
		if out, err := ssh(s, t, server, at, "echo in").CombinedOutput(); err == nil || !strings.Contains(string(out), "timed out") {
			t.Errorf("a second login without knocks: %v\n%s", err, out)
		}
		s.realKnocks(t, at)
		if out, err := ssh(s, t, server, at, "echo in").Output(); err != nil || string(out) != "in\n" {
			t.Errorf("a second login after knocks: %v, %q", err, out)
		}

		// The first session is still open.
		fmt.Fprintln(in, "still here")
		got, err := io.ReadAll(lines)
		if err != nil || string(got) != "you said: still here\n" {
			t.Errorf("the first session says %q (%v)", got, err)
		}
		if err := first.Wait(); err != nil {
			t.Errorf("the first session: %v", err)
		}

		// A session that is cut ends at both ends.
		s.realKnocks(t, at)
		second := ssh(s, t, server, at, "echo in; cat")
		out, err = second.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := second.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := bufio.NewReader(out).ReadString('\n'); err != nil || got != "in\n" {
			t.Fatalf("the session says %q (%v)", got, err)
		}
		if err := s.Gateway.Do(func() error {
			_, err := Backend{}.Revoke(m, firewall.Revocation{From: labtest.On(s.Outside, f), Door: &m.Doors[0], Cut: true})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if exit, ok := errors.AsType[*exec.ExitError](second.Wait()); !ok || exit.ExitCode() != 255 {
			t.Errorf("the session that was cut ends with %v", exit)
		}
	})
}

// realKnocks makes the recipe's knocks as its script does: connections that are
// given up after a tenth of a second.
func (s *scene) realKnocks(t *testing.T, at netip.Addr) {
	t.Helper()
	for _, port := range howtoKnocks {
		conn, err := s.Client.Dial(labtest.Within(t, 100*time.Millisecond), "tcp", netip.AddrPortFrom(at, port.Number))
		if err == nil {
			conn.Close()
			t.Errorf("the knock at %s was answered", port)
		}
	}
	s.Settled()
}

// banner connects and returns what the server says first; "" if there is no
// connection within half a second.
func banner(s *scene, t *testing.T, at netip.Addr) string {
	t.Helper()
	conn, err := s.Client.Dial(labtest.Within(t, 500*time.Millisecond), "tcp", netip.AddrPortFrom(at, 22))
	if err != nil {
		return ""
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	return line
}

// ssh returns a client that asks for nothing.
func ssh(s *scene, t *testing.T, server *openssh.Server, at netip.Addr, command string) *lab.Cmd {
	t.Helper()
	config := filepath.Join(t.TempDir(), "ssh_config")
	if err := os.WriteFile(config, []byte("Host gateway\n"+server.Client(at)+"\tConnectTimeout 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Client.Command(t.Context(), "ssh", "-F", config, "gateway", command)
}
