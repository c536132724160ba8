package otherrules_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/preflight/otherrules"
)

// TestOpenings: which rule sets leave a hidden port open to everyone once Postern's
// rules are gone. The policy hides tcp/22 everywhere and udp/53 on one address.
func TestOpenings(t *testing.T) {
	const denies = `nft add table inet x
		nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
		nft add rule inet x in ct state established,related accept
		`
	for _, test := range []struct {
		name   string
		rules  string // shell commands
		policy string // more of it
		want   []string
	}{
		{"no other rules", ``, "", nil},
		{"all is accepted", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in tcp dport 22 accept`, "", nil},
		{"nothing but the mark", denies + `nft add rule inet x in ct mark and 0x1000 == 0x1000 accept`, "admitted: {mark: 0x1000}", nil},
		{"the mark, and the port", denies + `nft add rule inet x in ct mark and 0x1000 == 0x1000 accept
			nft add rule inet x in tcp dport 22 accept`, "admitted: {mark: 0x1000}", []string{"inet x in: tcp/22"}},
		{"both ports", denies + `nft add rule inet x in meta l4proto '{tcp, udp}' th dport '{22, 53}' accept`, "", []string{"inet x in: tcp/22 udp/53"}},
		{"at a rate", denies + `nft add rule inet x in tcp dport 22 limit rate 3/minute accept`, "", []string{"inet x in: tcp/22"}},
		{"from some", denies + `nft add rule inet x in ip saddr 10.0.0.0/8 tcp dport 22 accept`, "", nil},
		{"on another interface", denies + `nft add rule inet x in iifname eth1 tcp dport 22 accept`, "interfaces: [eth0]", nil},
		{"on the policy's interface", denies + `nft add rule inet x in iifname eth0 tcp dport 22 accept`, "interfaces: [eth0]", []string{"inet x in: tcp/22"}},
		{"dropped by a second one", denies + `nft add rule inet x in tcp dport 22 accept
			iptables-nft -A INPUT -p tcp --dport 22 -m connmark ! --mark 0x1000/0x1000 -j DROP
			ip6tables-nft -A INPUT -p tcp --dport 22 -m connmark ! --mark 0x1000/0x1000 -j DROP`, "admitted: {mark: 0x1000}", nil},
		{"ufw's", `iptables-nft -P INPUT DROP
			iptables-nft -N ufw-user-input
			iptables-nft -A INPUT -j ufw-user-input
			iptables-nft -A ufw-user-input -p tcp --dport 22 -j ACCEPT`, "", []string{"(ufw) ip filter INPUT: tcp/22"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			if err := ruled(t, test.rules).Do(func() error {
				rules, err := otherrules.Read()
				if err != nil {
					return err
				}
				for _, o := range rules.Openings(machine(t, hidden+test.policy+"\n")) {
					text := fmt.Sprintf("%s %s:", o.Table, o.Chain)
					if o.Manager != "" {
						text = "(" + o.Manager + ") " + text
					}
					for _, p := range o.Ports {
						text += " " + p.String()
					}
					got = append(got, strings.TrimSpace(text))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
