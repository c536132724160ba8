package bpf

import (
	"math/bits"
	"testing"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// TestBegins: where nothing answers, knocks and decoys may begin a sequence; elsewhere all ports.
func TestBegins(t *testing.T) {
	const door = "doors:\n  ssh: {service: 22, knock: {sequence: [1001, 1002]}}\n"
	const users = "keys: {port: udp/99}\nusers:\n  alice: {devices: [laptop]}\ndoors:\n  ssh: {service: 22, knock: {key: [alice]}}\n"
	for name, test := range map[string]struct {
		text, secret string
		tcp, udp     int // at least; one more is too many, where some are drawn twice twenty more
	}{
		"silent":        {door, "a secret", 1000, 0},
		"UDP, too":      {door + "  vpn: {service: udp/1194, knock: {sequence: [udp/1003, 1004]}}\n", "a secret", 1000, 1000},
		"keys alone":    {users, "", 0, 0},
		"one knock":     {"doors:\n  ssh: {service: 22, knock: {sequence: [1001]}}\n", "a secret", 1 << 16, 1 << 16},
		"no secret":     {door, "", 1 << 16, 1 << 16},
		"allowed":       {"allow: [{service: 443}]\n" + door, "a secret", 1 << 16, 1 << 16},
		"allowed pings": {"allow: [{service: icmp/echo}]\n" + door, "a secret", 1 << 16, 1 << 16},
		"forfeit":       {door + "  web: {service: 443, knock: {sequence: [1003, 1004]}, forfeit: true}\n", "a secret", 1 << 16, 1 << 16},
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
		e := NewEarly(m)
		for what, got := range map[string]struct {
			ports Ports
			least int
		}{"tcp": {e.BeginTCP, test.tcp}, "udp": {e.BeginUDP, test.udp}} {
			n := 0
			for _, word := range got.ports {
				n += bits.OnesCount64(word)
			}
			if n < got.least || got.least < 1000 && n > got.least || n > got.least+25 {
				t.Errorf("%s: %d ports of %s, want %d", name, n, what, got.least)
			}
		}
		for i := range m.Edges {
			if e := &m.Edges[i]; e.From == automaton.Root && NewEarly(m).BeginTCP[e.On.Number/64]>>(e.On.Number%64)&1 == 0 && e.On.Protocol == policy.TCP {
				t.Errorf("%s: %v does not begin a sequence", name, e.On)
			}
		}
	}
}
