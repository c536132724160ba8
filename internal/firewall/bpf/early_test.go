package bpf

import (
	"math/bits"
	"testing"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// TestFirstKnocks: where nothing answers they are the knocks and the decoys; elsewhere all ports.
func TestFirstKnocks(t *testing.T) {
	const door = "doors:\n  ssh: {service: 22, knock: {sequence: [1001, 1002]}}\n"
	const all = 1 << 16
	for name, test := range map[string]struct {
		text, secret string
		least, most  int
	}{
		"silent":        {door, "a secret", 1001, 1025},
		"UDP, too":      {door + "  vpn: {service: udp/1194, knock: {sequence: [udp/1003, 1004]}}\n", "a secret", 740, 1025},
		"UDP alone":     {"doors:\n  vpn: {service: udp/1194, knock: {sequence: [udp/1003, 1004]}}\n", "a secret", 0, 0},
		"keys alone":    {"keys: {port: udp/99}\nusers:\n  alice: {devices: [laptop]}\ndoors:\n  ssh: {service: 22, knock: {key: [alice]}}\n", "", 0, 0},
		"one knock":     {"doors:\n  ssh: {service: 22, knock: {sequence: [1001]}}\n", "a secret", all, all},
		"no secret":     {door, "", all, all},
		"allowed":       {"allow: [{service: 443}]\n" + door, "a secret", all, all},
		"allowed pings": {"allow: [{service: icmp/echo}]\n" + door, "a secret", all, all},
		"forfeit":       {door + "  web: {service: 443, knock: {sequence: [1003, 1004]}, forfeit: true}\n", "a secret", all, all},
	} {
		p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: closed\ncover: drop\n"+test.text))
		if err != nil {
			t.Fatal(err)
		}
		m, err := automaton.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		m.Secret, m.Parameters.Early = []byte(test.secret), true
		first, n := NewEarly(m).First, 0
		for _, word := range first {
			n += bits.OnesCount64(word)
		}
		if n < test.least || n > test.most {
			t.Errorf("%s: %d ports, want %d to %d", name, n, test.least, test.most)
		}
		for i := range m.Edges {
			e := &m.Edges[i]
			if e.From == automaton.Root && e.On.Protocol == policy.TCP && first[e.On.Number/64]>>(e.On.Number%64)&1 == 0 {
				t.Errorf("%s: %v is none", name, e.On)
			}
		}
	}
}

// TestWhatMatters: datagrams and echo requests are remembered where they may be knocks, and where
// they may keep their source's progress: a door's service does, whatever its knocks are.
func TestWhatMatters(t *testing.T) {
	for door, want := range map[string][2]bool{
		"{service: 22, knock: {sequence: [1001, 1002]}}":                           {false, false},
		"{service: 22, knock: {sequence: [1001, udp/1002]}}":                       {true, false},
		"{service: 22, knock: {sequence: [icmp/echo, 1002]}}":                      {false, true},
		"{service: 22, knock: {sequence: [1001, 1002], close: [1003, udp/1004]}}":  {true, false},
		"{service: udp/1194, knock: {sequence: [1001, 1002]}}":                     {true, false},
		"{service: udp/1194, knock: {sequence: [1001, 1002], retransmits: reset}}": {false, false},
		"{service: [22, udp/22], knock: {sequence: [1001, 1002, icmp/echo]}}":      {true, true},
		"{service: udp/1194, knock: {sequence: [1001]}}":                           {false, false},
	} {
		p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: closed\ncover: drop\ndoors:\n  door: "+door+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := automaton.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		m.Parameters.Early = true
		if e := NewEarly(m); e.UDPKnocks != want[0] || e.EchoKnocks != want[1] {
			t.Errorf("%s: datagrams are remembered: %v, echo requests: %v, want %v", door, e.UDPKnocks, e.EchoKnocks, want)
		}
	}
}
