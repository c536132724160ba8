//go:build linux

package debian

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"postern/internal/lab"
)

// SSH returns a command that logs in from a host of the lab, as root, and runs a line,
// or root's shell if that is empty. Options are ssh's own, and come first.
func (m *Machine) SSH(ctx context.Context, from *lab.Host, at netip.Addr, line string, options ...string) *lab.Cmd {
	m.t.Helper()
	known := filepath.Join(m.disk, "known_hosts")
	if _, err := os.Stat(known); err != nil {
		base := m.layers[len(m.layers)-1]
		key, err := os.ReadFile(filepath.Join(base, "etc/ssh/ssh_host_ed25519_key.pub"))
		if err == nil {
			err = os.WriteFile(known, append([]byte("* "), key...), 0o600)
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	args := append(options, "-F", "none", "-l", "root", "-i", m.key(), "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes",
		"-o", "BatchMode=yes", "-o", "LogLevel=ERROR", at.String())
	if line = strings.TrimSpace(line); line != "" {
		args = append(args, line)
	}
	return from.Command(ctx, "ssh", args...)
}

// key returns the file of the key that root logs in with.
func (m *Machine) key() string {
	return filepath.Join(m.layers[len(m.layers)-1], "root/.ssh/id_ed25519")
}
