//go:build linux

package stealth

import (
	"net/netip"
	"strings"
	"testing"

	"postern/internal/firewall"
	"postern/internal/packet"
)

// TestStealthNAT: another program diverts hidden ports to another host, as programs do
// that publish containers. The ports must answer as all others do, and nothing may
// arrive there: a stray ACK is enough to begin a flow in conntrack, and was answered.
func TestStealthNAT(t *testing.T) {
	for _, c := range covers {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, c, usual)
			n.inner.Route("192.0.2.0/24", netip.MustParseAddr("192.168.9.1"))
			program, rules := "nft", []string{
				"add table ip publish",
				"add chain ip publish in { type nat hook prerouting priority -100; }",
				"add rule ip publish in tcp dport 22 fib daddr type local dnat to 192.168.9.2:443",
				"add rule ip publish in udp dport 5353 fib daddr type local dnat to 192.168.9.2:5354",
			}
			if _, ok := c.backend.(firewall.Diverted); ok { // it keeps packets from NAT rules of its own tables only
				program, rules = "iptables", []string{
					"-t nat -A PREROUTING -p tcp --dport 22 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.9.2:443",
					"-t nat -A PREROUTING -p udp --dport 5353 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.9.2:5354",
				}
			}
			for _, rule := range rules {
				if out, err := n.gw.Command(t.Context(), program, strings.Fields(rule)...).CombinedOutput(); err != nil {
					t.Fatalf("%s %s: %v\n%s", program, rule, err, out)
				}
			}
			e := n.examiner(t, n.fromScanner, n.fromFriend)
			w := ways(n.fromScanner)[0]
			for _, protocol := range []packet.Protocol{packet.ProtocolTCP, packet.ProtocolUDP} {
				recipes, ports := tcpRecipes, []uint16{22, 40001}
				if protocol == packet.ProtocolUDP {
					recipes, ports = udpRecipes, []uint16{5353, 40001}
				}
				arrived, err := n.inner.Admitted(protocol, nil)
				if err != nil {
					t.Fatal(err)
				}
				hidden := e.examine(t, w, recipes, protocol, ports[0])
				for _, p := range drain(t, arrived) {
					t.Errorf("it arrived where the port is published from: %v", p.Packet)
				}
				idle := e.examine(t, w, recipes, protocol, ports[1])
				for name := range hidden {
					if hidden, idle := words(hidden[name]), words(idle[name]); hidden != idle {
						t.Errorf("%s: the hidden port: %s; an idle one: %s", name, hidden, idle)
					}
				}
			}
		})
	}
}
