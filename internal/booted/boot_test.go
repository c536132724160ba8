//go:build linux

package booted

import (
	"testing"
)

// TestBoot reboots a machine that hides its sshd: from power-on until users can
// log in, nobody outside connects to it, and afterwards a client who knocks does.
// Without Postern the prober does connect, so that it would have seen it.
func TestBoot(t *testing.T) {
	for _, f := range firewalls {
		for _, backend := range []string{"nftables", "iptables"} {
			t.Run(f.name+"/"+backend, func(t *testing.T) {
				s := newScene(t, f.variant, backend)
				s.put(s.policy())
				s.m.On()
				s.m.Run(f.enable)
				if backend == "nftables" {
					s.m.Off()
					r := s.boot()
					t.Logf("without Postern: %s", r)
					if r.Open == 0 {
						t.Error("the prober saw nothing open without Postern: it would never see anything")
					}
				}
				s.install()
				s.hides("after postern up")
				for _, way := range []struct {
					name string
					off  func()
				}{{"reboot", s.m.Off}, {"power cut", s.m.Cut}} {
					way.off()
					r := s.boot()
					t.Logf("%s: %s", way.name, r)
					if r.Open > 0 {
						t.Errorf("open after a %s", way.name)
					}
					if failed := s.m.Failed(); failed != "" {
						t.Errorf("failed units:\n%s", failed)
					}
					s.hides("after a " + way.name)
				}
			})
		}
	}
}
