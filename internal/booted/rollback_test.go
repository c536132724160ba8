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

	const processes, allTimers = "pkill -9 -f -- [-]-expired", "systemctl stop 'postern-rollback-*.timer'"
	agents := []struct{ name, others string }{{"systemd", processes}, {"the process", allTimers}}
	// expires has one agent alone roll back. Without the watchdog, which would do it too.
	expires := func(when, others string) {
		t.Helper()
		s.m.Run("systemctl stop postern-watchdog; " + others)
		r := s.probe(0, 6*time.Second, func() {})
		t.Logf("%s: %s", when, r)
		if r.Open > 0 {
			t.Errorf("open until they were %s", when)
		}
		s.sound(when)
		s.m.Run("systemctl start postern-watchdog")
		s.hides(when)
	}
	for _, agent := range agents {
		load(" --confirm 4s")
		if timers() == "" {
			t.Error("systemd has no timer")
		}
		expires("rolled back by "+agent.name, agent.others)
	}

	// The unit's reload loads a third policy, which waits as well. It leaves agents, too,
	// from within its sandbox.
	s.m.Run("systemctl start postern") // as a boot does: only what has started is reloaded
	for _, agent := range agents {
		load(" --confirm 4s")
		s.m.Write(policyFile, strings.Replace(s.policy(), "41830", "2830", 1), 0o600)
		s.m.Run(processes + "; " + allTimers + "; systemctl reload postern")
		if out, code := s.m.Status("postern status"); code != 0 || !strings.Contains(out, "postern confirm") {
			t.Errorf("after a reload status exits with %d: %s", code, out)
		}
		s.m.Write(policyFile, s.policy(), 0o600)
		expires("rolled back by "+agent.name+" after a reload", agent.others)
	}

	// Nothing that waits holds up what ends the waiting.
	prompt := func(what string, f func()) {
		t.Helper()
		begun := time.Now()
		f()
		if took := time.Since(begun); took > 20*time.Second {
			t.Errorf("rules wait, and %s takes %s", what, took)
		} else {
			t.Logf("%s: %s", what, took.Round(time.Millisecond))
		}
	}
	load("") // which is for a minute, over the network
	s.m.Run("systemctl reload postern")
	if out, _ := s.m.Try("postern status"); !strings.Contains(out, "postern confirm") {
		t.Errorf("after a reload nothing waits: %s", out)
	}
	prompt("a restart of the unit", func() { s.m.Run("systemctl restart postern") })
	if left := timers(); left != "" {
		t.Errorf("restarted, and systemd still has %s", left)
	}
	s.hides("restarted")

	load("")
	prompt("switching off", s.m.Off)
	if r := s.boot(); r.Open > 0 {
		t.Errorf("reboot: %s", r)
	}
	s.hides("after a reboot")

	load("")
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
