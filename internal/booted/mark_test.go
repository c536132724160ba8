//go:build linux

package booted

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/lab/debian"
	"postern/internal/lab/labtest"
	"postern/internal/preflight"
)

// A denial is another firewall that denies by default, and accepts what Postern has
// marked, by the lines that doctor prints.
type denial struct {
	name    string
	variant debian.Variant
	rules   func(s *scene, m *automaton.Machine) // on a machine that is on

	// firewalld tells systemd that it has started before it loads its rules. For so
	// long, without Postern, everything is open at each boot.
	late bool
}

var denials = []denial{
	{name: "ufw", variant: debian.UFW, rules: func(s *scene, m *automaton.Machine) {
		s.m.Run("ufw --force enable && systemctl enable ufw")
		for _, step := range section(s.T, m, "ufw").Steps {
			where, above := "", "in /etc/ufw/before"
			if strings.HasPrefix(step.Text, above) {
				where, _, _ = strings.Cut(strings.TrimPrefix(step.Text, "in "), ",")
			}
			for _, line := range step.Lines {
				switch {
				case where != "": // above its last line, COMMIT
					s.m.Run(fmt.Sprintf("sed -i 's#^COMMIT$#%s\\n&#' %s", line, where))
				case step.Text == "run":
					s.m.Run(line)
				}
			}
		}
	}},
	{name: "a plain default deny", variant: debian.Plain, rules: func(s *scene, m *automaton.Machine) {
		accept := section(s.T, m, "nftables").Steps[0].Lines[0]
		s.m.Write("/etc/nftables.conf", fmt.Sprintf(`#!/usr/sbin/nft -f
flush ruleset
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		iifname lo accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		%[1]s
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
		ct state established,related accept
		%[1]s
	}
}
`, accept), 0o755)
		s.m.Run("systemctl enable --now nftables")
	}},
	{name: "firewalld", variant: debian.Firewalld, late: true, rules: func(s *scene, m *automaton.Machine) {
		s.m.Run("systemctl enable --now firewalld")
		for _, step := range section(s.T, m, "firewalld").Steps {
			for _, line := range step.Lines {
				if step.Text == "run" {
					s.m.Run(line)
				} else { // in firewalld.conf
					key, _, _ := strings.Cut(line, "=")
					s.m.Run(fmt.Sprintf("sed -i 's/^%s=.*/%s/' /etc/firewalld/firewalld.conf", key, line))
				}
			}
		}
		s.m.Run("systemctl restart firewalld")
	}},
}

func section(t *testing.T, m *automaton.Machine, program string) preflight.Section {
	t.Helper()
	for _, s := range preflight.AcceptMarked(m) {
		if s.Program == program {
			return s
		}
	}
	t.Fatalf("no lines for %s", program)
	panic("not reached")
}

// TestMark has a firewall that denies by default accept what Postern marks and nothing
// else. Doors work, to this host and to another; and whatever takes Postern away, for a
// moment or at a boot, leaves them shut.
func TestMark(t *testing.T) {
	for _, d := range denials {
		t.Run(d.name, func(t *testing.T) {
			s := newScene(t, d.variant, "nftables")
			inner := s.lab.Host("inner")
			s.onBoot = func(gw *lab.Host) {
				toInner, _ := s.lab.Connect(gw, inner, "10.0.0.0/24", "2001:db8:1::/64")
				inner.Route("203.0.113.0/24", toInner.Addr4())
				inner.Route("2001:db8:2::/64", toInner.Addr6())
				inner.Route("198.18.0.0/16", toInner.Addr4())
				inner.Route("2001:db8:c::/64", toInner.Addr6())
			}
			policy := s.policy() + `
  four:
    service: tcp/8443
    forward: 10.0.0.2:443
    knock: {sequence: [30001, 30002, 30003]}
  six:
    service: tcp/8444
    forward: "[2001:db8:1::2]:443"
    knock: {sequence: [30004, 30005, 30006]}
admitted: {mark: 0x1000}
cover: drop
`
			s.put(policy)
			s.m.Write("/etc/sysctl.d/60-forward.conf", "net.ipv4.ip_forward=1\nnet.ipv6.conf.all.forwarding=1\n", 0o644)
			s.m.On()
			labtest.Greet(t, inner, 443, "hello")
			s.m.Run("sysctl -qp /etc/sysctl.d/60-forward.conf")
			d.rules(s, labtest.Compile(t, nftables.Backend{}, policy))
			s.install()
			doors := func(when string) {
				t.Helper()
				s.hides(when)
				s.letsIn(when, s.home.Addr6())
				for _, f := range []struct {
					at     netip.Addr
					port   uint16
					knocks string
				}{{s.home.Addr4(), 8443, "30001,30002,30003"}, {s.home.Addr6(), 8444, "30004,30005,30006"}} {
					out, err := s.client.Command(t.Context(), "sh", "-c", "sleep 1 | "+s.opens(f.at, f.port, f.knocks)).CombinedOutput()
					if err != nil || !strings.Contains(string(out), "hello") {
						t.Errorf("%s: the forwarded door at %s: %v: %s", when, f.at, err, out)
					}
				}
			}
			doors("after postern up")
			s.more = []netip.AddrPort{netip.AddrPortFrom(s.link.Addr4(), 8443), netip.AddrPortFrom(s.link.Addr6(), 8444)}
			s.m.Run("systemctl stop postern-watchdog")
			for _, event := range []string{"nft delete table inet postern", "postern down"} {
				s.m.Run("postern up --no-confirm")
				r := s.probe(100*time.Millisecond, 400*time.Millisecond, func() { s.m.Run(event) })
				t.Logf("%s: %s", event, r)
				if r.Open > 0 {
					t.Errorf("open after: %s", event)
				}
			}
			s.m.Run("postern uninstall")
			s.m.Off()
			r := s.boot()
			t.Logf("boot without Postern: %s", r)
			if r.Open > 0 && !d.late {
				t.Error("open at a boot without Postern")
			}
			if d.late {
				s.m.Run("firewall-cmd --state") // which waits for it
			}
			if r := s.probe(0, 100*time.Millisecond, func() {}); r.Open > 0 {
				t.Errorf("open after a boot without Postern: %s", r)
			}
			s.install()
			s.m.Off()
			r = s.boot()
			t.Logf("boot: %s", r)
			if r.Open > 0 {
				t.Error("open at a boot")
			}
			doors("after a boot")
		})
	}
}
