//go:build linux

package booted

import (
	"strings"
	"testing"
	"time"

	"postern/internal/lab/debian"
)

// TestRollback loads a policy that locks its caller out, over ssh. The former one comes
// back: by systemd's timer if all processes of the session are killed, and by a boot.
// What is confirmed stays, and leaves no timer.
func TestRollback(t *testing.T) {
	s := newScene(t, debian.Plain, "nftables")
	s.put(s.policy())
	s.m.Write("/etc/postern/bad.yaml", strings.Replace(s.policy(), "41830", "1830", 1), 0o600)
	s.m.On()
	s.install()
	s.hides("at first")
	load := func(more string) {
		t.Helper()
		out, err := s.ssh(s.home.Addr4(), "postern up --yes -f /etc/postern/bad.yaml"+more)
		if err != nil || !strings.Contains(out, "unless they are confirmed") {
			t.Fatalf("%v: %s", err, out)
		}
		if out, code := s.m.Status("postern status -f /etc/postern/bad.yaml"); code != 0 || !strings.Contains(out, "postern confirm") {
			t.Fatalf("status exits with %d: %s", code, out)
		}
	}
	timers := func() string { return s.m.Run("systemctl list-units --no-legend --all 'postern-rollback-*'") }

	load(" --confirm 4s")
	if timers() == "" {
		t.Error("systemd has no timer")
	}
	s.m.Run("systemctl stop postern-watchdog; pkill -9 -f -- [-]-expired")
	r := s.probe(0, 6*time.Second, func() {})
	t.Logf("agent killed: %s", r)
	if r.Open > 0 {
		t.Error("open while the agent was dead")
	}
	s.m.Run("systemctl start postern-watchdog")
	s.hides("rolled back by systemd")

	load(" --confirm 4s")
	s.m.Run("systemctl stop 'postern-rollback-*.timer'")
	time.Sleep(5 * time.Second)
	s.hides("rolled back by the process")

	load("")
	s.m.Run("systemctl reload postern")
	s.m.Run("postern rollback") // which finds that rules wait still
	s.hides("rolled back after a reload")

	load("") // which is for a minute, over the network
	s.m.Cut()
	if r := s.boot(); r.Open > 0 {
		t.Errorf("power cut: %s", r)
	}
	s.hides("after a power cut")

	load("")
	s.m.Run("postern confirm")
	if left := timers(); left != "" {
		t.Errorf("confirmed, and systemd still has %s", left)
	}
	s.m.Cut()
	if r := s.boot(); r.Open > 0 {
		t.Errorf("power cut: %s", r)
	}
	if out, code := s.m.Status("postern status -f /etc/postern/bad.yaml"); code != 0 {
		t.Errorf("confirmed, and after a boot status exits with %d: %s", code, out)
	}
}
