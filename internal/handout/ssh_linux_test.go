package handout

import (
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/openssh"
	"postern/internal/policy"
)

// TestSSH uses the real ssh for everything: the alias of the host, the knocks
// (the machine has no other program for them) and the login.
func TestSSH(t *testing.T) {
	t.Parallel()
	s := newScene(t, strictTCP)
	keys := t.TempDir()
	server, err := openssh.Start(t.Context(), s.server, 22, keys)
	if err != nil {
		t.Fatal(err)
	}
	m := machine{"dash with ssh", []string{"dash"}, map[string]string{"sleep": "sleep", "ssh": "ssh"}}
	for _, host := range []struct {
		alias string
		at    netip.Addr
	}{{"hidden4", s.at.Addr4()}, {"hidden6", s.at.Addr6()}} {
		t.Run(host.alias, func(t *testing.T) {
			folder, words := m.install(t, &s.policy.Doors[0])
			config := filepath.Join(keys, "ssh_config")
			text := "Host " + host.alias + "\n" + server.Client(host.at) + "\tConnectTimeout 5\n"
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
