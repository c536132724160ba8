//go:build linux

package iptables

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPassed: which rules of others, before ours, may let in what ours hide.
func TestPassed(t *testing.T) {
	for _, test := range []struct {
		name, policy, rules string
		passed              bool
	}{
		{"none", "ACCEPT", "", false},
		{"behind ours", "ACCEPT", "-A INPUT -j POSTERN-INPUT\n-A INPUT -j ACCEPT\n", false},
		{"ACCEPT", "DROP", "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n", true},
		{"only in the end", "ACCEPT", "-A INPUT -j LOG --log-prefix \"-j ACCEPT\"\n-A INPUT -j POSTERN-IDLE\n-A INPUT -i eth0 -j ACCEPT\n", true},
		{"dropped, logged, marked", "ACCEPT", "-A INPUT -s 192.0.2.1/32 -j DROP\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\n" +
			"-A INPUT -j LOG --log-prefix \"-j ACCEPT\"\n-A INPUT -j MARK --set-xmark 0x1/0xffffffff\n-A INPUT -m recent --set --name a\n", false},
		{"RETURN, and the policy accepts", "ACCEPT", "-A INPUT -i eth0 -j RETURN\n", true},
		{"RETURN, and the policy drops", "DROP", "-A INPUT -i eth0 -j RETURN\n", false},
		{"a program's", "DROP", "-A INPUT -j NFQUEUE --queue-num 0\n", true},
		{"sent elsewhere", "ACCEPT", "-A INPUT -p tcp -m tcp --dport 22 -j REDIRECT --to-ports 2222\n", true},
		{"an unknown target", "DROP", "-A INPUT -j NEWTARGET\n", true},
		{"fail2ban's", "ACCEPT", "-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd\n" +
			"-A f2b-sshd -s 192.0.2.1/32 -j REJECT --reject-with icmp-port-unreachable\n-A f2b-sshd -j RETURN\n", false},
		{"deep down", "DROP", "-A INPUT -j a\n-A a -j b\n-A a -j RETURN\n-A b -j c\n-A c -s 192.0.2.1/32 -j ACCEPT\n", true},
		{"where nothing leads", "ACCEPT", "-A INPUT -j a\n-A a -j b\n-A c -j ACCEPT\n", false},
		{"round and round", "ACCEPT", "-A INPUT -j a\n-A a -j b\n-A b -j a\n", false},
		{"gone for good, and the policy accepts", "ACCEPT", "-A INPUT -g a\n-A a -s 192.0.2.1/32 -j DROP\n", true},
		{"gone for good, and the policy drops", "DROP", "-A INPUT -g a\n-A a -s 192.0.2.1/32 -j DROP\n", false},
		{"gone for good, to what accepts", "DROP", "-A INPUT -g a\n-A a -s 192.0.2.1/32 -j ACCEPT\n", true},
		{"gone in a chain that was called", "ACCEPT", "-A INPUT -j a\n-A a -g b\n-A b -j LOG\n", false},
		{"for what ours mark, too early", "DROP", "-A INPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT\n", true},
		{"a comment that looks like it", "ACCEPT", "-A INPUT -m comment --comment \"-g a\" -j a\n-A a -m comment --comment \"-j ACCEPT\" -j DROP\n", false},
	} {
		var listing strings.Builder
		fmt.Fprintf(&listing, "*filter\n:INPUT %s [0:0]\n:POSTERN-INPUT - [0:0]\n:POSTERN-IDLE - [0:0]\n:f2b-sshd - [0:0]\n:a - [0:0]\n:b - [0:0]\n:c - [0:0]\n", test.policy)
		for line := range strings.Lines(test.rules + "-A INPUT -j POSTERN-INPUT\n-A INPUT -j ACCEPT\n-A INPUT -j POSTERN-IDLE\n-A POSTERN-INPUT -j ACCEPT\n") {
			listing.WriteString("[0:0] " + line)
		}
		tables, err := parseLoaded(listing.String() + "COMMIT\n")
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		entries := tables["filter"].content().entries
		i := slices.IndexFunc(entries, func(e entry) bool { return e.rule == "INPUT -j POSTERN-INPUT" })
		if entries[i].passed != test.passed {
			t.Errorf("%s: got %v", test.name, entries[i])
		}
		if end := entries[len(entries)-1]; end.rule != "INPUT -j POSTERN-IDLE" || end.passed {
			t.Errorf("%s: the end is %v", test.name, end)
		}
	}
}

// TestPassedInRaw: what marks packets before ours look for marks keeps tokens from opening.
func TestPassedInRaw(t *testing.T) {
	for rule, passed := range map[string]bool{
		"-A a -j MARK --set-xmark 0x0/0xf0000": true, // Calico's
		"-A a -j CT --notrack":                 false,
	} {
		tables, err := parseLoaded("*raw\n:PREROUTING ACCEPT [0:0]\n:a - [0:0]\n:POSTERN-PREROUTING - [0:0]\n" +
			"[0:0] -A PREROUTING -j a\n[0:0] -A PREROUTING -j POSTERN-PREROUTING\n[0:0] " + rule + "\nCOMMIT\n")
		if err != nil {
			t.Fatal(err)
		}
		if got := tables["raw"].content().entries[0]; got.passed != passed {
			t.Errorf("%s: got %v", rule, got)
		}
	}
}

// TestEnd: the one chain that stands behind the rules of others is called as rules
// that are loaded are read.
func TestEnd(t *testing.T) {
	ends := 0
	for _, file := range policies {
		for _, f := range families {
			for _, g := range Compile(machine(t, file)).shared(f, nil) {
				for _, j := range g.jumps {
					if j.last != (j.to == endName) {
						t.Errorf("%s: %+v", file, j)
					}
					if j.last {
						ends++
					}
				}
			}
		}
	}
	if ends == 0 {
		t.Error("no policy has it")
	}
}

// TestMoves: which entries go and come, and in which order. What was changed is
// undone by the same means.
func TestMoves(t *testing.T) {
	type all = []entry
	const in, end, other = "INPUT -j POSTERN-INPUT", "INPUT -j POSTERN-IDLE", "INPUT -i eth0 -j POSTERN-INPUT"
	shared := all{{at: 1, rule: in}, {at: 0, rule: end}}
	for _, test := range []struct {
		name      string
		now, want all
		gone      []string
		come      all
	}{
		{"new", nil, shared, nil, shared},
		{"there", all{{at: 1, rule: in}, {at: 2, rule: end}}, shared, nil, nil},
		{"behind what does no harm", all{{at: 3, rule: in}, {at: 5, rule: end}}, shared, nil, nil},
		{"passed", all{{3, in, true}, {at: 5, rule: end}}, shared, []string{in}, shared[:1]},
		{"passed, and put back", all{{at: 1, rule: in}, {at: 5, rule: end}}, all{{3, in, true}, {at: 5, rule: end}}, []string{in}, all{{3, in, true}}},
		{"twice", all{{at: 1, rule: in}, {at: 2, rule: end}, {3, in, true}, {at: 5, rule: end}}, shared, []string{in, in, end}, shared[:1]},
		{"twice, and put back", all{{at: 1, rule: in}, {at: 2, rule: end}}, all{{at: 1, rule: in}, {at: 2, rule: other}, {at: 3, rule: in}},
			[]string{in, end}, all{{at: 1, rule: in}, {at: 2, rule: other}, {at: 3, rule: in}}},
		{"the last is not wanted", all{{at: 1, rule: in}, {at: 2, rule: end}}, shared[:1], []string{end}, nil},
	} {
		gone, come := moves(test.now, test.want)
		var rules []string
		for _, e := range gone {
			rules = append(rules, e.rule)
		}
		if !slices.Equal(rules, test.gone) || !slices.Equal(come, test.come) {
			t.Errorf("%s: %q go and %+v come", test.name, rules, come)
		}
	}
}
