//go:build linux

// Package openssh runs the real sshd on a host of a lab, for the tests and the
// benches that log in as users do.
//
// A login needs root of the whole machine ([lab.RealRoot]): in a user namespace
// sshd cannot become another user, not even the one that it is.
package openssh

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// A Server is an sshd that lets root in with one key, to a plain sh in the folder of its
// keys.
type Server struct {
	folder string
}

// The daemon's settings. How many may be at the log-in at once is far above the
// usual ten, from which on sshd turns some away by chance: that has nothing to do
// with doors.
const settings = `Port %[2]d
HostKey %[1]s/host
AuthorizedKeysFile %[1]s/user.pub
# The keys lie in a folder for temporary files, which sshd would not trust.
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PidFile none
MaxStartups 200
Subsystem sftp internal-sftp
`

// Start starts sshd on a host, and waits until it listens. It is killed when the
// context or the lab ends. The folder is for its keys and the client's, and must be
// its own.
func Start(ctx context.Context, h *lab.Host, port uint16, folder string) (*Server, error) {
	s := &Server{folder}
	for _, key := range []string{"host", "user"} {
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path(key)).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w\n%s", err, out)
		}
	}
	public, err := os.ReadFile(s.path("host.pub"))
	if err != nil {
		return nil, err
	}
	users, err := os.ReadFile("/etc/passwd")
	if err != nil {
		return nil, err
	}
	// Whatever the machine's root has its shell do at the start is no part of this.
	users = regexp.MustCompile(`(?m)^root:.*$`).ReplaceAllLiteral(users, []byte("root:x:0:0::"+folder+":/bin/sh"))
	if err := errors.Join(
		os.WriteFile(s.path("passwd"), users, 0o644),
		os.WriteFile(s.path("known_hosts"), append([]byte("* "), public...), 0o600),
		os.WriteFile(s.path("sshd_config"), fmt.Appendf(nil, settings, folder, port), 0o600),
	); err != nil {
		return nil, err
	}
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		sshd = "/usr/sbin/sshd" // not in an ordinary user's PATH
	}
	// sshd wants a folder in /run. It gets a /run of its own, and its own users.
	const script = `mount -t tmpfs run /run && mkdir -m 755 /run/sshd && mount --bind "$2" /etc/passwd && exec "$0" -D -e -f "$1"`
	cmd := h.Command(ctx, "sh", "-c", script, sshd, s.path("sshd_config"), s.path("passwd"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines, said := bufio.NewScanner(stderr), ""
	for lines.Scan() {
		said += lines.Text() + "\n"
		if strings.Contains(lines.Text(), "Server listening on ::") {
			go io.Copy(io.Discard, stderr)
			return s, nil
		}
	}
	return nil, fmt.Errorf("sshd does not listen:\n%s", said)
}

// Client returns what ssh_config must say about a host where the server runs, below
// its Host line, for a client that asks for nothing.
func (s *Server) Client(at netip.Addr) string {
	return fmt.Sprintf(`	HostName %s
	User root
	IdentityFile %s
	IdentitiesOnly yes
	UserKnownHostsFile %s
	GlobalKnownHostsFile none
	StrictHostKeyChecking yes
	BatchMode yes
	LogLevel ERROR
`, at, s.path("user"), s.path("known_hosts"))
}

func (s *Server) path(name string) string { return filepath.Join(s.folder, name) }
