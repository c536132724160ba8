package otherrules_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// TestMarked: a rule set that accepts what the policy marks is no obstacle, if the
// packets are marked before it sees them; one that asks for other bits is.
func TestMarked(t *testing.T) {
	const (
		input = `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			`
		drops        = "drops inet x in: tcp/22 udp/53"
		dropsForward = "drops ip filter FORWARD: tcp/443 to 10.0.0.5"
	)
	for _, test := range []struct {
		name   string
		rules  string // shell commands
		want   []string
		wantIP []string // with the iptables backend
	}{
		{"the connection's mark", input + `nft add rule inet x in ct mark and 0x1000 == 0x1000 accept`,
			nil, []string{drops}},
		{"the packet's mark", input + `nft add rule inet x in meta mark and 0x1000 == 0x1000 accept`,
			nil, []string{drops}},
		{"any of some bits", input + `nft add rule inet x in ct mark and 0x3000 != 0 accept`,
			nil, []string{drops}},
		{"what is not marked is dropped", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 10; }'
			nft add rule inet x in tcp dport 22 ct mark and 0x1000 != 0x1000 drop
			nft add rule inet x in udp dport 53 meta mark and 0x1000 == 0 drop`,
			nil, nil},
		{"another bit", input + `nft add rule inet x in ct mark and 0x2000 == 0x2000 accept`,
			[]string{drops}, []string{drops}},
		{"another value of the same bits", input + `nft add rule inet x in ct mark and 0xf000 == 0x2000 accept`,
			[]string{drops}, []string{drops}},
		{"a new connection without a mask", input + `nft add rule inet x in tcp dport 22 ct mark 0x1000 accept`,
			[]string{"drops inet x in: udp/53"}, []string{"drops inet x in: udp/53"}},
		{"before it is marked", `nft add table inet x
			nft 'add chain inet x in { type filter hook prerouting priority -300; }'
			nft add rule inet x in meta mark and 0x1000 == 0x1000 accept
			nft add rule inet x in fib daddr type local drop`,
			[]string{"drops inet x in: tcp/22 udp/53 tcp/8443"}, []string{"drops inet x in: tcp/22 udp/53 tcp/8443"}},
		{"behind both backends", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 10; policy drop; }'
			nft add rule inet x in ct mark and 0x1000 == 0x1000 accept`,
			nil, nil},
		{"in iptables", `iptables-nft -P INPUT DROP
			iptables-nft -P FORWARD DROP
			iptables-nft -A INPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT
			iptables-nft -A FORWARD -m mark --mark 0x1000/0x1000 -j ACCEPT`,
			nil, nil},
		{"not in iptables", `iptables-nft -A INPUT -p tcp --dport 22 -m connmark ! --mark 0x1000/0x1000 -j DROP
			iptables-nft -A INPUT -p udp --dport 53 -m mark ! --mark 0x1000/0x1000 -j DROP
			iptables-nft -A FORWARD -m connmark --mark 0x2000/0x2000 -j ACCEPT
			iptables-nft -P FORWARD DROP`,
			[]string{dropsForward}, []string{dropsForward}},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := ruled(t, test.rules)
			for b, want := range map[firewall.Backend][]string{nftables.Backend{}: test.want, iptables.Backend{}: test.wantIP} {
				var got []string
				if err := host.Do(func() error {
					rules, err := otherrules.Read()
					if err != nil {
						return err
					}
					for _, o := range rules.Obstacles(machine(t, hidden+"admitted: {mark: 0x1000}\n"), b) {
						got = append(got, text(o))
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("%s (-want +got)\n%s", b.Name(), d)
				}
			}
		})
	}
}

// TestUnmarked: what no door has admitted does not carry the mark, and is refused by
// a rule set that accepts what does.
func TestUnmarked(t *testing.T) {
	host := ruled(t, `nft add table inet x
		nft 'add chain inet x in { type filter hook input priority 0; }'
		nft add rule inet x in ct mark and 0x1000 == 0x1000 accept
		nft add rule inet x in reject with icmpx admin-prohibited`)
	if err := host.Do(func() error {
		rules, err := otherrules.Read()
		if err != nil {
			return err
		}
		for _, r := range rules.Refusals(machine(t, hidden+"admitted: {mark: 0x1000}\n")) {
			if r.Answer != policy.AnswerOther {
				t.Errorf("%v", r)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
