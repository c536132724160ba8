//go:build linux

package booted

import (
	"strings"
	"testing"
	"time"
)

// TestEvents has the other firewalls reload, restart, stop and flush, and others
// remove Postern's rules, while a prober watches.
func TestEvents(t *testing.T) {
	for _, f := range firewalls {
		for _, backend := range []string{"nftables", "iptables"} {
			t.Run(f.name+"/"+backend, func(t *testing.T) {
				s := newScene(t, f.variant, backend)
				s.m.On()
				s.m.Run(f.enable)
				s.install()
				s.hides("at first")
				for _, event := range f.events {
					what, _, _ := strings.Cut(event, ";")
					var out string
					var err error
					r := s.probe(100*time.Millisecond, 400*time.Millisecond, func() { out, err = s.m.Try(event) })
					t.Logf("%s: %s", what, r)
					if err != nil {
						t.Errorf("%s: %v: %s", what, err, out)
					}
					if r.Open > 0 {
						t.Errorf("open while: %s", what)
					}
					s.hides("after " + what)
				}
			})
		}
	}
}
