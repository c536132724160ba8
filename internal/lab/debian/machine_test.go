//go:build linux

package debian_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/debian"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// Every variant boots, has its firewall, which is off, and users can log in. Its disk
// outlives going off and a power cut, its network does not, and nothing is left.
func TestMachine(t *testing.T) {
	for _, v := range []debian.Variant{debian.Plain, debian.UFW, debian.Firewalld, debian.IptablesPersistent, debian.Trixie} {
		t.Run(string(v), func(t *testing.T) {
			l := lab.NewT(t)
			outside := l.Host("outside")
			var link *lab.Link
			m := debian.New(t, l, v, func(gw *lab.Host) { _, link = l.Connect(outside, gw, "192.0.2.0/24", "2001:db8::/64") })
			m.Write("/root/early", "early", 0o600)
			begin := time.Now()
			m.On()
			t.Logf("booted in %s", time.Since(begin).Round(time.Millisecond))
			if failed := m.Failed(); failed != "" {
				t.Errorf("failed units:\n%s", failed)
			}
			m.Write("/root/late", "late", 0o600)
			if got := m.Run("cat /root/early /root/late; stat -c %a /root"); got != "earlylate700\n" {
				t.Errorf("files: %q", got)
			}
			for _, other := range []string{"nftables", "ufw", "firewalld", "netfilter-persistent"} {
				out, _ := m.Try("systemctl is-active " + other)
				if strings.TrimSpace(out) != "inactive" {
					t.Errorf("%s is %s", other, out)
				}
			}
			m.Run("nft add table inet t && sysctl -w net.ipv4.ip_forward=1")
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			out, err := m.SSH(ctx, outside, link.Addr6(), "echo $SSH_CONNECTION; loginctl --no-legend").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "2001:db8::1") || !strings.Contains(string(out), "root") {
				t.Errorf("ssh: %v, %s", err, out)
			}
			m.Reboot()
			if got := m.Run("nft list tables; cat /root/late"); got != "late" {
				t.Errorf("after a reboot: %q", got)
			}
			m.Cut()
			m.On()
			if got := m.Run("cat /root/late"); got != "late" {
				t.Errorf("after a power cut: %q", got)
			}
			if out, code := m.Status("exit 7"); out != "" || code != 7 {
				t.Errorf("a command that fails: %q, %d", out, code)
			}
			m.Off()
			if journal := m.Journal(); strings.Count(journal, "Startup finished") < 2 {
				t.Errorf("the journal has not all boots:\n%s", journal)
			}
		})
	}
}
