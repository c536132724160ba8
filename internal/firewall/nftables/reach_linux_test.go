package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// TestInterfaces: a policy for some interfaces leaves the others alone.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddInner()
	labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.Greet(t, s.Gateway, 9, "other")
	fromInside := func(to uint16, f labtest.Family) {
		s.Dial(t, s.Inner, netip.AddrPortFrom(labtest.On(s.Inside, f), to), map[uint16]string{22: "ssh", 9: "other"}[to])
	}
	s.Up(labtest.Closed + "interfaces: [" + s.Gate.Name + "]\ndoors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		fromInside(22, f)
		fromInside(9, f)
		src := s.NewAddress(f)
		s.Expect(t, src, labtest.TCP(22), labtest.Silence, "where the policy holds")
		s.Expect(t, src, labtest.TCP(9), labtest.Silence, "where the policy holds")
		s.Knock(src, labtest.TCP(1), labtest.TCP(2))
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
		// Loopback is never touched.
		for _, to := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), labtest.On(s.Gate, f)} {
			s.Dial(t, s.Gateway, netip.AddrPortFrom(to, 22), "ssh")
		}
	})
	s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		s.Dial(t, s.Gateway, netip.AddrPortFrom(labtest.On(s.Gate, f), 22), "ssh")
		// The inner host's connections so far go on, but a new one is no other's.
		if conn, err := s.Inner.Dial(labtest.Within(t, 300*time.Millisecond), "tcp", netip.AddrPortFrom(labtest.On(s.Inside, f), 22)); err == nil {
			conn.Close()
			t.Error("the other interface is not governed either")
		}
	})
}

// TestAllow: what needs no knock, and never touches anyone's progress.
func TestAllow(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Closed + `
allow:
  - service: tcp/443
  - service: tcp/8000-8002
  - from: 198.51.200.0/24
  - {service: tcp/25, from: 198.51.201.0/24, interface: ` + s.Gate.Name + `}
  - {service: tcp/26, interface: elsewhere}
  - {service: udp/53}
  - {service: icmp/echo}
doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}
`)
	for _, port := range []uint16{22, 25, 26, 443, 7999, 8000, 8001, 8002, 8003} {
		labtest.Greet(t, s.Gateway, port, "hello")
	}
	labtest.EchoUDP(t, s.Gate, 53)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		src := s.NewAddress(f)
		s.Knock(src, labtest.TCP(1))
		for port, want := range map[policy.Port]labtest.Answer{labtest.TCP(443): labtest.SYNACK, labtest.TCP(8000): labtest.SYNACK, labtest.TCP(8001): labtest.SYNACK, labtest.TCP(8002): labtest.SYNACK, labtest.UDP(53): labtest.Received, labtest.Echo: labtest.EchoReply} {
			s.Expect(t, src, port, want, "allowed")
		}
		if got := s.path(m, src); !slices.Equal(got, []policy.Port{labtest.TCP(1)}) {
			t.Errorf("allowed packets led the source from 1 knock to %v", got)
		}
		s.Knock(src, labtest.TCP(2))
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "a knock with allowed packets inside")
		for _, port := range []policy.Port{labtest.TCP(7999), labtest.TCP(8003), labtest.TCP(25), labtest.TCP(26), labtest.UDP(54)} {
			s.Expect(t, src, port, labtest.Silence, "not allowed")
		}
	})
	s.Expect(t, netip.MustParseAddr("198.51.200.3"), labtest.TCP(22), labtest.SYNACK, "from everywhere allowed")
	s.Expect(t, netip.MustParseAddr("198.51.201.3"), labtest.TCP(25), labtest.SYNACK, "from its network")
	s.Expect(t, netip.MustParseAddr("198.51.201.3"), labtest.TCP(22), labtest.Silence, "another service")
}

// TestGuard: in guard only the doors' services are hidden.
func TestGuard(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Guard + `
allow: [{service: tcp/443}]
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}}
  vpn: {service: udp/51820, knock: {sequence: [1, 3]}}
`)
	for _, port := range []uint16{2, 22, 80, 443} { // something listens on a knock port, too
		labtest.Greet(t, s.Gateway, port, "hello")
	}
	labtest.EchoUDP(t, s.Gate, 51820)
	labtest.EchoUDP(t, s.Gate, 53)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		for port, want := range map[policy.Port]labtest.Answer{
			labtest.TCP(22): labtest.RST, labtest.TCP(23): labtest.RST, labtest.TCP(1): labtest.RST, labtest.TCP(2): labtest.SYNACK, labtest.TCP(80): labtest.SYNACK, labtest.TCP(443): labtest.SYNACK,
			labtest.UDP(51820): labtest.Unreachable, labtest.UDP(9): labtest.Unreachable, labtest.UDP(53): labtest.Received, labtest.Echo: labtest.EchoReply,
		} {
			s.Expect(t, s.NewAddress(f), port, want, "without knocks")
		}
		src := s.NewAddress(f)
		s.Knock(src, labtest.TCP(1))
		s.Expect(t, src, labtest.TCP(443), labtest.SYNACK, "allowed")
		if got := s.path(m, src); len(got) != 1 {
			t.Errorf("an allowed packet led the source to %v", got)
		}
		s.Knock(src, labtest.TCP(2))
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
		s.Expect(t, src, labtest.TCP(22), labtest.RST, "a second connection")
		s.Knock(src, labtest.TCP(1), labtest.TCP(3))
		s.Expect(t, src, labtest.UDP(51820), labtest.Received, "after the knocks")

		src = s.NewAddress(f)
		s.Knock(src, labtest.TCP(1), labtest.TCP(80), labtest.TCP(2))
		s.Expect(t, src, labtest.TCP(22), labtest.RST, "a port that the policy does not name between the knocks")
	})
	s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr4(), 80), "hello")
}

// TestOddSources: addresses that no client can have earn no grant.
func TestOddSources(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	for _, text := range []string{"127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.255", "192.0.2.2", "0.0.0.0", "::1", "ff02::1", "2001:db8::2", "::"} {
		src := netip.MustParseAddr(text)
		s.Knock(src, labtest.TCP(1), labtest.TCP(2))
		if n := s.granted(src); n > 0 {
			t.Errorf("%s holds %d grants", src, n)
		}
	}
	src := s.NewAddress(labtest.IPv4)
	s.Knock(src, labtest.TCP(1), labtest.TCP(2))
	if n := s.granted(src); n != 1 {
		t.Errorf("an ordinary source holds %d grants, want 1", n)
	}
}
