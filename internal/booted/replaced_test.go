//go:build linux

package booted

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postern/internal/lab/debian"
)

// TestReplaced replaces the program of the running watchdog by another build. With the
// next change of rules the unit's process goes on as that: systemd sees neither a stop
// nor a failure, and what others flush is loaded again.
func TestReplaced(t *testing.T) {
	for _, v := range []debian.Variant{debian.Plain, debian.Trixie} {
		t.Run(string(v), func(t *testing.T) {
			s := newScene(t, v, "nftables")
			s.put(s.policy())
			s.m.On()
			s.install()
			s.hides("at first")
			unit := func() string {
				return s.m.Run("systemctl show --property=MainPID,NRestarts,ActiveState,Result postern-watchdog")
			}
			// The file that the process runs.
			file := func() string {
				return strings.TrimSpace(s.m.Run("stat -Lc %i /proc/$(systemctl show --property=MainPID --value postern-watchdog)/exe"))
			}
			before, old := unit(), file()

			next := filepath.Join(t.TempDir(), "postern")
			if out, err := exec.Command("go", "build", "-trimpath", "-ldflags=-s", "-o", next, "postern/cmd/postern").CombinedOutput(); err != nil {
				t.Fatalf("go build: %v\n%s", err, out)
			}
			s.m.Install(next, "/usr/bin/postern", 0o755)
			r := s.probe(100*time.Millisecond, 400*time.Millisecond, func() { s.m.Run("postern up --no-confirm") })
			if r.Open > 0 {
				t.Errorf("open while the program is replaced: %s", r)
			}
			installed := strings.TrimSpace(s.m.Run("stat -c %i /usr/bin/postern"))
			for deadline := time.Now().Add(20 * time.Second); file() != installed; time.Sleep(50 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("it runs file %s, and not %s, which was put in the place of %s", file(), installed, old)
				}
			}
			s.hides("replaced")
			if after := unit(); after != before {
				t.Errorf("the unit was\n%sand is\n%s", before, after)
			}
			if said := s.m.Run("journalctl --unit postern-watchdog --output cat"); !strings.Contains(said, "goes on as what is /usr/bin/postern now") {
				t.Errorf("it has not said so:\n%s", said)
			}
			s.m.Try("nft flush ruleset; nft delete table inet postern") // which may be held
			s.hides("flushed")
		})
	}
}
