package handout

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

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/policy"
)

// TestSSH uses the real ssh for everything: the alias of the host, the knocks
// (the machine has no other program for them) and the login.
func TestSSH(t *testing.T) {
	t.Parallel()
	s := newScene(t, strictTCP)
	keys := t.TempDir()
	s.startSSHD(t, keys)
	m := machine{"dash with ssh", []string{"dash"}, map[string]string{"sleep": "sleep", "ssh": "ssh"}}
	for _, host := range []struct {
		alias string
		at    netip.Addr
	}{{"hidden4", s.at.Addr4()}, {"hidden6", s.at.Addr6()}} {
		t.Run(host.alias, func(t *testing.T) {
			folder, words := m.install(t, &s.policy.Doors[0])
			config := filepath.Join(keys, "ssh_config")
			text := fmt.Sprintf("Host %s\n\tHostName %s\n\tUser root\n\tIdentityFile %s\n\tUserKnownHostsFile %s\n"+
				"\tGlobalKnownHostsFile none\n\tStrictHostKeyChecking yes\n\tBatchMode yes\n\tConnectTimeout 5\n",
				host.alias, host.at, filepath.Join(keys, "user"), filepath.Join(keys, "known_hosts"))
			if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			want := outcome{"in\n", "", 9}
			run := func() outcome {
				return finish(t, s.elsewhere(t, config, "/etc/ssh/ssh_config", folder, append(words, host.alias, "echo in; exit 9")))
			}
			if !lab.RealRoot() {
				// sshd cannot become another user in a user namespace, so there
				// is no login; the knocks are the same.
				login := run
				run = func() outcome { login(); return want }
			}
			s.openDoor(t, 0, run, want, host.at, policy.Port{Protocol: policy.TCP, Number: 22})
		})
	}
}

// elsewhere returns a command of the client that sees another file in place of
// one of the machine's.
func (s *scene) elsewhere(t *testing.T, file, inPlaceOf, path string, words []string) *lab.Cmd {
	t.Helper()
	args := append([]string{"-c", `mount --bind "$1" "$2" && PATH=$3 && shift 3 && exec "$@"`, "sh", file, inPlaceOf, path}, words...)
	cmd := s.client.Command(t.Context(), "sh", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	return cmd
}

// startSSHD starts sshd on the server and waits until it listens. The keys are
// in the directory keys; user and known_hosts are the client's.
func (s *scene) startSSHD(t *testing.T, keys string) {
	t.Helper()
	for _, name := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(keys, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(keys, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"known_hosts": fmt.Sprintf("%s,%s %s", s.at.Addr4(), s.at.Addr6(), public),
		// The keys are in a temporary directory, which sshd would not trust.
		"sshd_config": fmt.Sprintf("Port 22\nHostKey %[1]s/host\nAuthorizedKeysFile %[1]s/user.pub\nStrictModes no\n"+
			"PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nPidFile none\n", keys),
	} {
		if err := os.WriteFile(filepath.Join(keys, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // not in an ordinary user's PATH
	}
	// sshd needs a directory in /run. It gets a /run of its own.
	cmd := s.server.Command(t.Context(), "sh", "-c", `mount -t tmpfs run /run && mkdir -m 755 /run/sshd && exec "$0" -D -e -f "$1"`,
		sshd, filepath.Join(keys, "sshd_config"))
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
