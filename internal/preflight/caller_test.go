package preflight

import (
	"net/netip"
	"testing"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

func TestBlocks(t *testing.T) {
	const doors = `
doors:
  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}
  own: {service: tcp/2222, address: 192.0.2.1, from: [203.0.113.0/24], knock: {sequence: [47011, 5120, 31878]}}
`
	for _, test := range []struct {
		name, policy, from, to, through string
		want                            string // "" for nothing
	}{
		{"hidden", "posture: guard", "198.51.100.7", "192.0.2.1:22", "eth0", "tcp/22 by door ssh"},
		{"hidden, IPv6", "posture: guard", "2001:db8::7", "[2001:db8::1]:22", "eth0", "tcp/22 by door ssh"},
		{"not hidden", "posture: guard", "198.51.100.7", "192.0.2.1:23", "eth0", ""},
		{"closed", "posture: closed", "198.51.100.7", "192.0.2.1:23", "eth0", "tcp/23 by no door"},
		{"may not knock", "posture: guard", "198.51.100.7", "192.0.2.1:2222", "eth0", "tcp/2222 by no door"},
		{"may knock", "posture: guard", "203.0.113.7", "192.0.2.1:2222", "eth0", "tcp/2222 by door own"},
		{"at another address", "posture: guard", "198.51.100.7", "192.0.2.2:2222", "eth0", ""},
		{"allowed", "posture: closed\nallow: [{service: tcp/22}]", "198.51.100.7", "192.0.2.1:22", "eth0", ""},
		{"in a range", "posture: closed\nallow: [{service: tcp/20-30}]", "198.51.100.7", "192.0.2.1:22", "eth0", ""},
		{"in another protocol", "posture: closed\nallow: [{service: udp/22}]", "198.51.100.7", "192.0.2.1:22", "eth0", "tcp/22 by door ssh"},
		{"allowed from there", "posture: closed\nallow: [{from: 198.51.100.0/24}]", "198.51.100.7", "192.0.2.1:22", "eth0", ""},
		{"allowed from elsewhere", "posture: closed\nallow: [{from: 198.51.101.0/24}]", "198.51.100.7", "192.0.2.1:22", "eth0", "tcp/22 by door ssh"},
		{"allowed there", "posture: closed\nallow: [{service: tcp/22, interface: eth0}]", "198.51.100.7", "192.0.2.1:22", "eth0", ""},
		{"allowed elsewhere", "posture: closed\nallow: [{service: tcp/22, interface: eth1}]", "198.51.100.7", "192.0.2.1:22", "eth0", "tcp/22 by door ssh"},
		{"not governed", "posture: closed\ninterfaces: [eth1]", "198.51.100.7", "192.0.2.1:22", "eth0", ""},
		{"governed", "posture: closed\ninterfaces: [eth1]", "198.51.100.7", "192.0.2.1:22", "eth1", "tcp/22 by door ssh"},
		{"on an unknown interface", "posture: closed\ninterfaces: [eth1]", "198.51.100.7", "192.0.2.1:22", "", "tcp/22 by door ssh"},
		{"from here", "posture: closed", "127.0.0.1", "127.0.0.1:22", "lo", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := policy.Parse("policy.yaml", []byte("version: 1\n"+test.policy+doors))
			if err != nil {
				t.Fatal(err)
			}
			m, err := automaton.Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			to := netip.MustParseAddrPort(test.to)
			way := host.Way{
				By: "SSH", Protocol: policy.TCP, Local: to, Original: to, Through: test.through,
				Remote: netip.AddrPortFrom(netip.MustParseAddr(test.from), 50022),
			}
			got := ""
			if out := blocks(m, way, to); out != nil {
				got = out.port.String() + " by no door"
				if out.door != nil {
					got = out.port.String() + " by door " + out.door.Name
				}
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
