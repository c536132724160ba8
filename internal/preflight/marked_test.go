package preflight

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// acceptMarked writes the sections as text.
func acceptMarked(t *testing.T, doors string) string {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: guard\n"+doors))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, s := range AcceptMarked(m) {
		for _, step := range s.Steps {
			fmt.Fprintf(&b, "%s: %s\n", s.Program, step.Text)
			for _, line := range step.Lines {
				fmt.Fprintf(&b, "    %s\n", line)
			}
		}
	}
	return b.String()
}

func TestAcceptMarked(t *testing.T) {
	const plain = `admitted: {mark: 0x20}
allow: [{service: tcp/22, from: 10.0.0.0/8, interface: eth1}, {service: udp/53, interface: eth1}, {service: tcp/80}]
doors: {ssh: {service: [tcp/22, udp/53], knock: {sequence: [7, 9, 8]}}}`
	const want = `ufw: in /etc/ufw/before.rules, above its last line, COMMIT
    -A ufw-before-input -m connmark --mark 0x20/0x20 -j ACCEPT
ufw: in /etc/ufw/before6.rules, above its last line, COMMIT
    -A ufw6-before-input -m connmark --mark 0x20/0x20 -j ACCEPT
ufw: run
    ufw reload
ufw: take back what accepts the ports from everyone, if you have it
    ufw delete allow 22/tcp
    ufw delete allow 53/udp
firewalld: run
    firewall-cmd --permanent --add-port=22/tcp
    firewall-cmd --permanent --add-port=53/udp
    firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 0 -s 10.0.0.0/8 -i eth1 -p tcp --dport 22 -j ACCEPT
    firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 1 -p tcp --dport 22 -m conntrack --ctstate NEW -m connmark ! --mark 0x20/0x20 -j DROP
    firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 0 -i eth1 -p udp --dport 53 -j ACCEPT
    firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 1 -p udp --dport 53 -m conntrack --ctstate NEW -m connmark ! --mark 0x20/0x20 -j DROP
    firewall-cmd --permanent --direct --add-rule ipv6 filter INPUT 1 -p tcp --dport 22 -m conntrack --ctstate NEW -m connmark ! --mark 0x20/0x20 -j DROP
    firewall-cmd --permanent --direct --add-rule ipv6 filter INPUT 0 -i eth1 -p udp --dport 53 -j ACCEPT
    firewall-cmd --permanent --direct --add-rule ipv6 filter INPUT 1 -p udp --dport 53 -m conntrack --ctstate NEW -m connmark ! --mark 0x20/0x20 -j DROP
    firewall-cmd --reload
firewalld: in /etc/firewalld/firewalld.conf, so that the ports are shut, too, while firewalld is stopped
    CleanupOnExit=no
nftables: in your input chain, before what drops
    ct mark and 0x20 == 0x20 accept
iptables: run, and keep it where your rules are kept
    iptables -I INPUT -m connmark --mark 0x20/0x20 -j ACCEPT
    ip6tables -I INPUT -m connmark --mark 0x20/0x20 -j ACCEPT
`
	if d := cmp.Diff(want, acceptMarked(t, plain)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestAcceptMarkedForwarded: a door to another host is a matter of the forward
// chains of its family, and a policy without a mark is told of the key first.
func TestAcceptMarkedForwarded(t *testing.T) {
	const doors = `doors: {web: {service: tcp/8443, forward: "[2001:db8::5]:443", knock: {sequence: [7, 9, 8]}}}`
	const want = `postern: at the top level of the policy, before "postern up"
    admitted: {mark: 0x1000}
ufw: in /etc/ufw/before6.rules, above its last line, COMMIT
    -A ufw6-before-forward -m connmark --mark 0x1000/0x1000 -j ACCEPT
ufw: run
    ufw reload
firewalld: nothing: it accepts what is sent on to another host
nftables: in your forward chain, before what drops
    ct mark and 0x1000 == 0x1000 accept
iptables: run, and keep it where your rules are kept
    ip6tables -I FORWARD -m connmark --mark 0x1000/0x1000 -j ACCEPT
`
	if d := cmp.Diff(want, acceptMarked(t, doors)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
