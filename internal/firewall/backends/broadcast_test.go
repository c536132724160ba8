//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"fmt"
	"net/netip"
	"testing"

	"postern/internal/firewall/backends"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestBroadcast: what is hidden is not reached by broadcast, multicast or anycast either,
// also where it is hidden on one address only. In guard other ports are.
func TestBroadcast(t *testing.T) {
	for _, b := range backends.All() {
		for _, posture := range []policy.Posture{policy.Closed, policy.Guard} {
			for _, bound := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%s/address %t", b.Name(), posture, bound), func(t *testing.T) {
					s := labtest.NewScene(t, b)
					s.Gateway.Sysctl("net/ipv6/conf/all/forwarding", "1") // a router has an anycast address
					text := fmt.Sprintf("version: 1\nposture: %s\nlog: {target: none}\ndoors:\n", posture)
					addresses := []string{""}
					if bound {
						addresses = []string{s.Gate.Addr4().String(), s.Gate.Addr6().String()}
					}
					for i, a := range addresses {
						if a != "" {
							a = ", address: " + fmt.Sprintf("%q", a)
						}
						text += fmt.Sprintf("  dns%d: {service: udp/53%s, knock: {sequence: [%d, 7009]}}\n", i, a, 7001+i)
					}
					s.Up(text)
					anycast := s.Gate.Addr6().As16()
					clear(anycast[8:])
					for _, to := range []netip.Addr{
						netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1"),
						netip.MustParseAddr("ff02::1"), netip.AddrFrom16(anycast),
					} {
						for port, hidden := range map[uint16]bool{53: true, 54: posture == policy.Closed} {
							if got := hears(t, s, to, port); got == hidden {
								t.Errorf("a datagram to %s, port %d, arrives: %t", to, port, got)
							}
						}
					}
				})
			}
		}
	}
}

// hears reports whether the gateway gets a datagram.
func hears(t *testing.T, s *labtest.Scene, to netip.Addr, port uint16) bool {
	t.Helper()
	admitted, err := s.Gateway.Admitted(packet.Protocol(policy.UDP), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admitted.Close()
	from := s.NewAddress(labtest.Of(to))
	s.Send(&packet.Packet{Src: from, Dst: to, UDP: &packet.UDP{SrcPort: 5000, DstPort: port}})
	s.Settled()
	all, err := admitted.Drain()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Src == from && p.UDP != nil {
			return true
		}
	}
	return false
}
