package iptables

import (
	"net/netip"
	"testing"

	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// TestCalls: a hidden UDP service is not reached by what is for everybody on the
// network, or for the nearest router. Its answer would give it away, and begin a flow
// in which it then answers whatever comes. What is not hidden stays as it was.
func TestCalls(t *testing.T) {
	const hidden, shown = 69, 70
	for _, variant := range variants {
		t.Run(variant, func(t *testing.T) {
			s := labtest.NewScene(t, Backend{Variant: variant})
			s.Gateway.Sysctl("net.ipv6.conf.all.forwarding", "1") // which makes it answer for 2001:db8::
			s.Up("version: 1\nposture: guard\nlog: {target: none}\ndoors:\n" +
				"  boot: {service: udp/69, knock: {sequence: [1001, 1002, 1003]}}\n")
			arrived, err := s.Gateway.Admitted(packet.ProtocolUDP, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []string{"192.0.2.255", "255.255.255.255", "224.0.0.1", "2001:db8::", "ff02::1"} {
				dst := netip.MustParseAddr(to)
				for _, port := range []uint16{hidden, shown} {
					src := labtest.On(s.Outside, labtest.Of(dst))
					s.Port++
					s.Send(&packet.Packet{Src: src, Dst: dst, UDP: &packet.UDP{SrcPort: s.Port, DstPort: port}})
					s.Settled()
					got, err := arrived.Drain()
					if err != nil {
						t.Fatal(err)
					}
					if port == hidden && len(got) > 0 {
						t.Errorf("the hidden service got a packet for %s", dst)
					}
					if port == shown && len(got) != 1 {
						t.Errorf("another service got %d packets for %s, want 1", len(got), dst)
					}
				}
			}
		})
	}
}
