package otherrules_test

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"postern/internal/firewall/nftables"
	"postern/internal/preflight/otherrules"
)

// TestIPSets: a rule that accepts the senders in an ipset is for some senders.
func TestIPSets(t *testing.T) {
	const policy = "version: 1\nposture: guard\ndoors:\n  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}\n"
	const some = "accepts some ip filter INPUT: tcp/22 from those in an ipset"
	for _, test := range []struct{ name, rules, want string }{
		{"only those in it", "iptables-nft -P INPUT DROP; iptables-nft -A INPUT -p tcp --dport 22 -m set --match-set office src -j ACCEPT", some},
		{"all others are dropped", "iptables-nft -A INPUT -p tcp --dport 22 -m set ! --match-set office src -j DROP", some},
		{"those in it are dropped", "iptables-nft -A INPUT -m set --match-set office src -j DROP", ""},
		{"all but those", "iptables-nft -P INPUT DROP; iptables-nft -A INPUT -p tcp --dport 22 -m set ! --match-set office src -j ACCEPT", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := ruled(t, "")
			if err := host.Do(func() error {
				if err := netlink.IpsetCreate("office", "hash:ip", netlink.IpsetCreateOptions{}); err != nil {
					t.Skipf("this kernel has no such ipsets: %v", err)
				}
				return netlink.IpsetAdd("office", &netlink.IPSetEntry{IP: net.ParseIP("192.0.2.7").To4()})
			}); err != nil {
				t.Fatal(err)
			}
			rule(t, host, test.rules)
			var got []string
			if err := host.Do(func() error {
				rules, err := otherrules.Read()
				if err != nil {
					return err
				}
				for _, o := range rules.Obstacles(machine(t, policy), nftables.Backend{}) {
					got = append(got, strings.TrimSpace(text(o)+" "+strings.Join(o.Senders, "; ")))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(got, "; "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}
