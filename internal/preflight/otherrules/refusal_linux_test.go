package otherrules_test

import (
	"fmt"
	"strings"
	"testing"

	"postern/internal/preflight/otherrules"
)

// The policy hides TCP in both families, and UDP on an IPv4 address: the answers
// are in this order.
func TestRefusals(t *testing.T) {
	const kernel4, kernel6, kernelUDP = "reset", "reset", "unreachable"
	all := func(answers ...string) string { return strings.Join(answers, "; ") }
	for _, test := range []struct {
		name, rules, want string
	}{
		{"nothing", ``, all(kernel4, kernel6, kernelUDP)},
		{"policy accept", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in tcp dport 997 drop
			nft add rule inet x in ip saddr 10.0.0.0/8 drop
			nft add rule inet x in tcp flags '& (fin|syn) == (fin|syn)' drop
			nft add rule inet x in ct state invalid drop`,
			all(kernel4, kernel6, kernelUDP)},
		{"policy drop", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in ct state established,related accept
			nft add rule inet x in tcp dport '{22, 80, 8443}' accept
			nft add rule inet x in udp dport 53 accept`,
			all("silence by inet x in", "silence by inet x in", "silence by inet x in")},
		{"ufw, IPv4 alone", `iptables-nft -P INPUT DROP
			iptables-nft -N ufw-user-input
			iptables-nft -A INPUT -j ufw-user-input
			iptables-nft -A ufw-user-input -p tcp --dport 22 -j ACCEPT`,
			all("silence by ip filter INPUT", kernel6, "silence by ip filter INPUT")},
		{"UDP alone, by a rule", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in udp dport 53 accept
			nft add rule inet x in meta l4proto udp drop`,
			all(kernel4, kernel6, "silence by inet x in")},
		{"the low ports alone", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in tcp dport '1-1023' drop`,
			all(kernel4, kernel6, kernelUDP)},
		{"before routing", `nft add table inet x
			nft 'add chain inet x pre { type filter hook prerouting priority -200; }'
			nft add rule inet x pre tcp dport != 22 drop`,
			all("silence by inet x pre", "silence by inet x pre", kernelUDP)},
		{"firewalld's way", `nft add table inet firewalld
			nft 'add chain inet firewalld filter_INPUT { type filter hook input priority 10; }'
			nft add rule inet firewalld filter_INPUT tcp dport 22 accept
			nft add rule inet firewalld filter_INPUT reject with icmpx admin-prohibited`,
			all("otherwise by inet firewalld filter_INPUT", "otherwise by inet firewalld filter_INPUT", "otherwise by inet firewalld filter_INPUT")},
		{"as the kernel does", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in tcp dport 22 accept
			nft add rule inet x in meta l4proto tcp reject with tcp reset
			nft add rule inet x in reject`,
			all("reset by inet x in", "reset by inet x in", "unreachable by inet x in")},
		{"by family", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in meta nfproto ipv4 reject with icmp port-unreachable
			nft add rule inet x in meta nfproto ipv6 reject with icmpv6 port-unreachable`,
			all("unreachable by inet x in", "unreachable by inet x in", "unreachable by inet x in")},
		{"iptables' reject", `iptables-nft -A INPUT -p tcp -j REJECT --reject-with tcp-reset
			iptables-nft -A INPUT -j REJECT
			ip6tables-nft -A INPUT -p tcp -j REJECT --reject-with icmp6-adm-prohibited`,
			all("reset by ip filter INPUT", "otherwise by ip6 filter INPUT", "unreachable by ip filter INPUT")},
		{"iptables' reject, the other way round", `iptables-nft -A INPUT -j REJECT --reject-with icmp-host-prohibited
			ip6tables-nft -A INPUT -p tcp -j REJECT --reject-with tcp-reset`,
			all("otherwise by ip filter INPUT", "reset by ip6 filter INPUT", "otherwise by ip filter INPUT")},
		{"the first that refuses", `nft add table inet x
			nft 'add chain inet x late { type filter hook input priority 10; policy drop; }'
			nft 'add chain inet x early { type filter hook input priority 0; }'
			nft add rule inet x early meta l4proto tcp reject with tcp reset`,
			all("reset by inet x early", "reset by inet x early", "silence by inet x late")},
		{"legacy", `iptables-legacy -P INPUT DROP`,
			all("silence by iptables-legacy filter INPUT", kernel6, "silence by iptables-legacy filter INPUT")},
		{"of what is forwarded", `iptables-nft -P FORWARD DROP`, all(kernel4, kernel6, kernelUDP)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			err := ruled(t, test.rules).Do(func() error {
				rules, err := otherrules.Read()
				if err != nil {
					return err
				}
				for _, i := range rules.Refusals(machine(t, hidden)) {
					text := []string{"silence", "reset", "unreachable", "otherwise"}[i.Answer]
					if i.Table != "" {
						text += fmt.Sprintf(" by %s %s", i.Table, i.Chain)
					}
					got = append(got, text)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := all(got...); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}
