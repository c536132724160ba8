package nftables

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// TestSSH puts OpenSSH behind the recipe's door, and comes in as users do.
func TestSSH(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.apply(howto(t))
	keys := t.TempDir()
	startSSHD(t, s.gw, keys)
	each(t, func(t *testing.T, f family) {
		at := on(s.gate, f)
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
		first := ssh(s, t, at, keys, "echo in; read line; echo you said: $line")
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
		if n := s.granted(on(s.outside, f)); n != 0 {
			t.Errorf("the session has left %d grants", n)
		}

		// Nobody else comes in on it, not even from there.
		if out, err := ssh(s, t, at, keys, "echo in").CombinedOutput(); err == nil || !strings.Contains(string(out), "timed out") {
			t.Errorf("a second login without knocks: %v\n%s", err, out)
		}
		s.realKnocks(t, at)
		if out, err := ssh(s, t, at, keys, "echo in").Output(); err != nil || string(out) != "in\n" {
			t.Errorf("a second login after knocks: %v, %q", err, out)
		}

		// The first session has lived on.
		fmt.Fprintln(in, "still here")
		got, err := io.ReadAll(lines)
		if err != nil || string(got) != "you said: still here\n" {
			t.Errorf("the first session says %q (%v)", got, err)
		}
		if err := first.Wait(); err != nil {
			t.Errorf("the first session: %v", err)
		}
	})
}

// realKnocks makes the recipe's knocks as its script does: connections that are
// given up after a tenth of a second.
func (s *scene) realKnocks(t *testing.T, at netip.Addr) {
	t.Helper()
	for _, port := range howtoKnocks {
		conn, err := s.client.Dial(within(t, 100*time.Millisecond), "tcp", netip.AddrPortFrom(at, port.Number))
		if err == nil {
			conn.Close()
			t.Errorf("the knock at %s was answered", port)
		}
	}
	s.settle()
}

// banner connects and gives what the server says first; "" if there is no
// connection within half a second.
func banner(s *scene, t *testing.T, at netip.Addr) string {
	t.Helper()
	conn, err := s.client.Dial(within(t, 500*time.Millisecond), "tcp", netip.AddrPortFrom(at, 22))
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

// startSSHD starts sshd with a key of its own, which it writes to the folder
// with the client's; it accepts that one alone.
func startSSHD(t *testing.T, h *lab.Host, keys string) {
	t.Helper()
	for _, name := range []string{"host", "user"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(keys, name)).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	config := filepath.Join(keys, "sshd_config")
	if err := os.WriteFile(config, []byte(`
Port 22
HostKey `+keys+`/host
AuthorizedKeysFile `+keys+`/user.pub
# The keys lie in a folder for temporary files, which sshd would not trust.
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
`), 0o600); err != nil {
		t.Fatal(err)
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // not in an ordinary user's PATH
	}
	// sshd wants a folder in /run. It gets a /run of its own.
	cmd := h.Command(t.Context(), "sh", "-c", `mount -t tmpfs run /run && mkdir -m 755 /run/sshd && exec "$0" -D -e -f "$1"`, sshd, config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, said := bufio.NewScanner(stderr), ""
	for lines.Scan() {
		said += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "Server listening on ::") {
			go io.Copy(io.Discard, stderr)
			return
		}
	}
	t.Fatalf("sshd does not listen:\n%s", said)
}

// ssh is a client that asks for nothing.
func ssh(s *scene, t *testing.T, at netip.Addr, keys, command string) *lab.Cmd {
	t.Helper()
	public, err := os.ReadFile(filepath.Join(keys, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	known := filepath.Join(keys, "known_hosts")
	if err := os.WriteFile(known, []byte(at.String()+" "+string(public)), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.client.Command(t.Context(), "ssh", "-F", "none", "-i", filepath.Join(keys, "user"),
		"-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=yes",
		"-o", "UserKnownHostsFile="+known, "-o", "ConnectTimeout=2", "root@"+at.String(), command)
}
