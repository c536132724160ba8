//go:build linux

package booted

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/internal/lab/debian"
)

// TestInit is how an administrator begins on a host with ufw: logged in over ssh,
// with a policy by init. Then ufw accepts what the door admits, and no longer the
// port; and without Postern's rules the port is shut.
func TestInit(t *testing.T) {
	s := newScene(t, debian.UFW, "nftables")
	s.m.Install(program, "/usr/bin/postern", 0o755)
	s.m.On()
	s.m.Run("ufw allow 22/tcp && ufw --force enable")

	// Enter takes what it suggests.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := s.m.SSH(ctx, s.outside, s.link.Addr4(), "postern init", "-tt")
	cmd.Stdin = strings.NewReader("\n\n")
	out, err := cmd.CombinedOutput()
	said := strings.ReplaceAll(string(out), "\r", "")
	if err != nil {
		t.Fatalf("init: %v\n%s", err, said)
	}
	for _, want := range []string{
		"an SSH server listens on tcp/22\n", "hide which ports? [tcp/22] ", "guard or closed? [guard] ",
		"door ssh hides tcp/22 behind 3 knocks\n", "postern share ssh --host " + s.link.Addr4().String() + " ", "postern up --yes ",
		"another firewall is there (table ip filter, chain INPUT)",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("init does not say %q:\n%s", want, said)
		}
	}
	policy := s.m.Run("cat " + policyFile)
	for _, want := range []string{"posture: guard\n", "cover: drop\n", "admitted:\n  mark: 0x1000\n", "service: tcp/22\n"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %q:\n%s", want, policy)
		}
	}
	link := strings.TrimSpace(s.m.Run("postern share ssh --host " + s.link.Addr4().String() + " 2>/dev/null"))
	s.m.Run("postern up --yes --no-confirm")
	s.byLink(link, "after up")

	// As docs/firewalls.md has it.
	s.m.Run(`sed -i 's/^COMMIT$/-A ufw-before-input -m connmark --mark 0x1000\/0x1000 -j ACCEPT\n&/' /etc/ufw/before.rules
	sed -i 's/^COMMIT$/-A ufw6-before-input -m connmark --mark 0x1000\/0x1000 -j ACCEPT\n&/' /etc/ufw/before6.rules
	ufw reload && ufw delete allow 22/tcp`)
	s.byLink(link, "with the mark")
	s.m.Run("nft delete table inet postern")
	if r := s.probe(0, 300*time.Millisecond, func() {}); r.Open > 0 {
		t.Errorf("without Postern's rules: %s", r)
	}
}
