//go:build linux

package stealth

import (
	"net/netip"
	"testing"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestStealthSegments: a routing header must not lead from an address where a port is open
// to the one where it is hidden. On a host without rules it does.
func TestStealthSegments(t *testing.T) {
	hidden := netip.MustParseAddr("2001:db8:1::2")
	for _, b := range backends.All() {
		t.Run(b.Name(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, cover{policy.Guard, policy.CoverReset, b}, site{forwards: true, segments: true})
			n.addBare()
			n.serve(t, n.gw, "tcp", "[2001:db8:2::2]:8081")
			n.serve(t, n.gw, "udp", "[2001:db8:2::2]:8082")
			arrives := func(h *lab.Host, k, beside *lab.Link, recipes []recipe, protocol packet.Protocol, port uint16) int {
				arrived, err := h.Admitted(protocol, func(p *packet.Packet) bool { return p.Dst == hidden })
				if err != nil {
					t.Fatal(err)
				}
				n.examiner(t, k, beside).examine(t, ways(k)[1], recipes, protocol, port)
				return len(drain(t, arrived))
			}
			for _, c := range []struct {
				recipes  []recipe
				protocol packet.Protocol
				port     uint16
			}{{routed("SYN"), packet.ProtocolTCP, 8081}, {routed("datagram"), packet.ProtocolUDP, 8082}} {
				if arrives(n.bare, n.toBare, n.besideBare, c.recipes, c.protocol, c.port) == 0 {
					t.Errorf("%s: no probe arrives where there are no rules", c.protocol)
				}
				if got := arrives(n.gw, n.fromScanner, n.fromFriend, c.recipes, c.protocol, c.port); got != 0 {
					t.Errorf("%s: %d probes arrive at the hidden port", c.protocol, got)
				}
			}
		})
	}
}
