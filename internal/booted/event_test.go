//go:build linux

package booted

import (
	"strings"
	"testing"
	"time"

	"postern/internal/lab/debian"
)

// How long a port may be open when another program has removed Postern's rules, and
// the watchdog loads them again. It takes four runs of iptables-restore for the
// iptables backend, and two milliseconds and a turn on a CPU for nftables.
var gap = map[string]time.Duration{"nftables": 100 * time.Millisecond, "iptables": 500 * time.Millisecond}

// TestEvents has the other firewalls reload, restart, stop and flush, and others
// remove Postern's rules, while a prober watches.
func TestEvents(t *testing.T) {
	for _, f := range firewalls {
		for _, backend := range []string{"nftables", "iptables"} {
			if len(f.events) == 0 {
				continue
			}
			t.Run(f.name+"/"+backend, func(t *testing.T) {
				s := newScene(t, f.variant, backend)
				s.put(s.policy())
				s.m.On()
				s.m.Run(f.enable)
				s.install()
				s.hides("at first")
				for _, event := range f.events {
					what := event
					if strings.HasPrefix(event, flushIptables) {
						what = "iptables -F, -X"
					}
					var out string
					var err error
					r := s.probe(100*time.Millisecond, 400*time.Millisecond, func() { out, err = s.m.Try(event) })
					t.Logf("%s: %s", what, r)
					if err != nil {
						t.Errorf("%s: %v: %s", what, err, out)
					}
					if r.Open > 0 && (!flushes(event, f, backend) || r.Longest > gap[backend]) {
						t.Errorf("open for %s while: %s", r.Longest, what)
					}
					s.hides("after " + what)
				}
			})
		}
	}
}

// flushes reports whether an event removes the rules of a backend, so that they are
// gone for a moment. Where the kernel and nft know tables that are held, nothing
// removes them. nftables.service and firewalld flush iptables' rules, too; Docker removes
// its own alone.
func flushes(event string, f firewall, backend string) bool {
	if f.variant == debian.Docker {
		return false
	}
	if backend == "nftables" {
		return f.variant != debian.Trixie && (strings.Contains(event, "nft ") || strings.Contains(event, " nftables"))
	}
	return !strings.Contains(event, "postern") && !strings.Contains(event, "daemon-reload")
}
