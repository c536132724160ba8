package preflight

import (
	"net/netip"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

// factsOf returns the facts of a host on which nothing is remarkable.
func factsOf(t *testing.T, text string) *facts {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte("version: 1\n"+text+"\ndoors: {ssh: {service: tcp/22, knock: {sequence: [7001, 5001, 6001]}}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return &facts{machine: m}
}

func TestProtocolsCutOff(t *testing.T) {
	at := func(name string, p policy.Protocol, remote, through string) host.Tunnel {
		tunnel := host.Tunnel{Name: name, Protocol: p, Interface: through}
		if remote != "" {
			tunnel.Remote = netip.MustParseAddr(remote)
		}
		return tunnel
	}
	tunnels := []host.Tunnel{at("gre1", policy.GRE, "198.51.100.7", "eth0"), at("sit1", policy.SIT, "", "")}
	ikeHere := []host.Receiver{{Local: netip.MustParseAddrPort("0.0.0.0:500")}}
	for _, test := range []struct {
		name, policy string
		facts        facts
		want         string // kinds, and what they are about
	}{
		{"nothing", "posture: closed", facts{}, ""},
		{"tunnels", "posture: closed", facts{tunnels: tunnels}, "tunnel-cut-off gre1, tunnel-cut-off sit1"},
		{"in guard", "posture: guard", facts{tunnels: tunnels, ipsec: []policy.Protocol{policy.ESP}, rawProtocols: []policy.Protocol{89}}, ""},
		{"loaded", "posture: closed", facts{loaded: true, tunnels: tunnels, receivers: ikeHere}, ""},
		{"allowed", "posture: closed\nallow: [{service: gre}, {service: 6in4, from: 192.0.2.0/24}]", facts{tunnels: tunnels}, ""},
		{"everything of the peer", "posture: closed\nallow: [{from: 198.51.100.0/24}]", facts{tunnels: tunnels}, "tunnel-cut-off sit1"},
		{"where the policy does not hold", "posture: closed\ninterfaces: [eth1]", facts{tunnels: tunnels}, "tunnel-cut-off sit1"},
		{"raw sockets", "posture: closed\nallow: [{service: ospf}]",
			facts{rawProtocols: []policy.Protocol{policy.OSPF, policy.VRRP, 253}}, "protocol-cut-off vrrp, protocol-cut-off protocol/253"},
		{"IPsec", "posture: closed", facts{ipsec: []policy.Protocol{policy.AH, policy.ESP}}, "ipsec-cut-off ah and esp"},
		{"its raw socket", "posture: closed\nallow: [{service: esp}]", facts{ipsec: []policy.Protocol{policy.ESP}, rawProtocols: []policy.Protocol{policy.ESP}}, ""},
		{"IKE alone", "posture: closed", facts{receivers: ikeHere}, "ipsec-cut-off esp"},
		{"IKE, allowed", "posture: closed\nallow: [{service: esp}]", facts{receivers: ikeHere}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := test.facts
			f.machine = factsOf(t, test.policy).machine
			var got []string
			for _, look := range []func(*facts) []Finding{(*facts).tunnelCutOff, (*facts).protocolCutOff, (*facts).ipsecCutOff} {
				for _, found := range look(&f) {
					_, about, _ := strings.Cut(found.Message, "does not let in ")
					about, _, _ = strings.Cut(about, ":")
					switch found.Kind {
					case TunnelCutOff:
						about = found.Where.Interface
					case ProtocolCutOff:
						_, about, _ = strings.Cut(found.Message, "receives ")
						about, _, _ = strings.Cut(about, ",")
					}
					got = append(got, string(found.Kind)+" "+about)
				}
			}
			if got := strings.Join(got, ", "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestTCPCutOff(t *testing.T) {
	listeners := []host.Receiver{
		{Local: netip.MustParseAddrPort("0.0.0.0:22")}, {Local: netip.MustParseAddrPort("[::]:80")},
		{Local: netip.MustParseAddrPort("192.0.2.1:25"), Interface: "eth0"}, {Local: netip.MustParseAddrPort("0.0.0.0:5001")},
	}
	for _, test := range []struct{ name, policy, want string }{
		{"all", "posture: closed", "warning tcp/25 and tcp/80"},
		{"in guard", "posture: guard", ""},
		{"one allowed", "posture: closed\nallow: [{service: tcp/80, from: 192.0.2.0/24}]", "warning tcp/25"},
		{"where the policy holds", "posture: closed\ninterfaces: [eth1]", "warning tcp/80"},
		{"all from somewhere", "posture: closed\nallow: [{from: 192.0.2.0/24}]", "note tcp/25 and tcp/80"},
		{"all allowed", "posture: closed\nallow: [{service: tcp/1-100}]", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := factsOf(t, test.policy)
			f.acceptors = listeners
			got := ""
			for _, found := range f.tcpCutOff() {
				_, ports, _ := strings.Cut(found.Message, "listen on ")
				ports, _, _ = strings.Cut(ports, ", which")
				got += found.Severity.String() + " " + ports
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
