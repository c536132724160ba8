package preflight

import (
	"net/netip"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

func TestUnnamedReceivers(t *testing.T) {
	const doors = `
doors:
  vpn: {service: udp/1194, knock: {sequence: [47011, 5120, 31877]}}
`
	for _, test := range []struct {
		name, policy string
		receivers    []string // address:port, at an interface if it is bound to one
		want         string
	}{
		{"nobody", "", nil, ""},
		{"a tunnel, in both families", "", []string{"0.0.0.0:51820", "[::]:51820"}, "udp/51820"},
		{"a door's", "", []string{"0.0.0.0:1194"}, ""},
		{"DHCP's", "", []string{"0.0.0.0:68", "[fe80::1]:546"}, ""},
		{"sorted", "", []string{"0.0.0.0:4500", "0.0.0.0:500"}, "udp/500 udp/4500"},
		{"allowed", "allow: [{service: udp/51820}]", []string{"0.0.0.0:51820"}, ""},
		{"allowed for some", "allow: [{service: udp/51820, from: 192.0.2.0/24}]", []string{"0.0.0.0:51820"}, ""},
		{"allowed in TCP", "allow: [{service: tcp/51820}]", []string{"0.0.0.0:51820"}, "udp/51820"},
		{"everything from somewhere", "allow: [{from: 192.0.2.0/24}]", []string{"0.0.0.0:51820"}, "udp/51820"},
		{"where the policy holds", "interfaces: [eth0]", []string{"0.0.0.0:51820", "192.0.2.1:500 eth0"}, "udp/500 udp/51820"},
		{"where it does not", "interfaces: [eth0]", []string{"10.0.0.1:53 eth1"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: closed\n"+test.policy+doors))
			if err != nil {
				t.Fatal(err)
			}
			m, err := automaton.Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			var receivers []host.Receiver
			for _, text := range test.receivers {
				local, name, _ := strings.Cut(text, " ")
				receivers = append(receivers, host.Receiver{Local: netip.MustParseAddrPort(local), Interface: name})
			}
			var names []string
			for _, port := range unnamed(m, policy.UDP, receivers) {
				names = append(names, port.String())
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
