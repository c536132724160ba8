package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// compile compiles a guard's policy.
func compile(t *testing.T, doors string) *automaton.Machine {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: guard\n"+doors))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// acceptMarked writes the sections as text.
func acceptMarked(t *testing.T, doors string) string {
	t.Helper()
	var b strings.Builder
	for _, s := range AcceptMarked(compile(t, doors)) {
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
iptables: run again: with the iptables backend its rules must come before these
    postern up
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
iptables: run again: with the iptables backend its rules must come before these
    postern up
`
	if d := cmp.Diff(want, acceptMarked(t, doors)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestHowToAccept: whatever made the rules, the hints lead to the mark, with lines to
// take as they are, and say what holds without Postern.
func TestHowToAccept(t *testing.T) {
	const (
		doors = `doors: {ssh: {service: tcp/22, knock: {sequence: [7, 9, 8]}}}`
		first = `let doors mark what they admit: add "admitted: {mark: 0x1000}" to the policy, at the top level`
		last  = `nothing carries the mark while postern's rules are absent: nobody reaches tcp/22 then`
	)
	to4, to6 := netip.MustParseAddr("192.168.1.50"), netip.MustParseAddr("2001:db8::5")
	for _, test := range []struct {
		about otherrules.Obstacle
		want  []string
	}{
		{otherrules.Obstacle{Table: "inet filter", Chain: "input", Marked: true},
			[]string{`"nft insert rule inet filter input ct mark and 0x1000 == 0x1000 accept", and the same in the file that you load`}},
		{otherrules.Obstacle{Table: "inet filter", Chain: "input"},
			[]string{`it judges packets before they are marked: hook that chain at input, with a priority above 0`}},
		{otherrules.Obstacle{Table: "ip6 filter", Chain: "INPUT", Marked: true},
			[]string{`"ip6tables -I INPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT", and keep it where your rules are kept`,
				`then "postern up": with the iptables backend its rules must come before that one`}},
		{otherrules.Obstacle{Table: "ip6tables-legacy filter", Chain: "INPUT", Kind: otherrules.DropsUnread, Marked: true},
			[]string{`check that its rules accept what is marked, as by "ip6tables-legacy -I INPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT"`}},
		{otherrules.Obstacle{Table: "ip filter", Chain: "INPUT", Manager: "ufw", Marked: true},
			[]string{`add "-A ufw-before-input -m connmark --mark 0x1000/0x1000 -j ACCEPT" to /etc/ufw/before.rules, above its last line, COMMIT, and run "ufw reload"`}},
		{otherrules.Obstacle{Table: "ip6 filter", Chain: "FORWARD", Manager: "ufw", Marked: true, To: to6},
			[]string{`add "-A ufw6-before-forward -m connmark --mark 0x1000/0x1000 -j ACCEPT" to /etc/ufw/before6.rules, above its last line, COMMIT, and run "ufw reload"`}},
		{otherrules.Obstacle{Table: "ip filter", Chain: "FORWARD", Manager: "docker", Marked: true, To: to4},
			[]string{`"iptables -I DOCKER-USER -m connmark --mark 0x1000/0x1000 -j ACCEPT"`}},
		{otherrules.Obstacle{Table: "inet firewalld", Chain: "filter_INPUT", Manager: "firewalld", Marked: true},
			[]string{
				`"firewall-cmd --permanent --add-port=22/tcp"`,
				`"firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 1 -p tcp --dport 22 -m conntrack --ctstate NEW -m connmark ! --mark 0x1000/0x1000 -j DROP"`,
				`"firewall-cmd --permanent --direct --add-rule ipv6 filter INPUT 1 -p tcp --dport 22 -m conntrack --ctstate NEW -m connmark ! --mark 0x1000/0x1000 -j DROP"`,
				`"firewall-cmd --reload"`,
			}},
	} {
		test.about.Ports = []policy.Port{{Protocol: policy.TCP, Number: 22}}
		f := &facts{machine: compile(t, doors)}
		if d := cmp.Diff(slices.Concat([]string{first}, test.want, []string{last}), f.howToAccept(test.about)); d != "" {
			t.Errorf("%+v (-want +got)\n%s", test.about, d)
		}
		f.machine = compile(t, "admitted: {mark: 0x1000}\n"+doors)
		if d := cmp.Diff(slices.Concat(test.want, []string{last}), f.howToAccept(test.about)); d != "" {
			t.Errorf("%+v, with the mark (-want +got)\n%s", test.about, d)
		}
	}
}
