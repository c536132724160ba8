package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/policy"
)

// TestInterfaces: a policy for some interfaces leaves the others alone.
func TestInterfaces(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.behind()
	serve(t, s.gw, 22, "ssh")
	serve(t, s.gw, 9, "other")
	fromInside := func(to uint16, f family) {
		s.dial(t, s.inner, netip.AddrPortFrom(on(s.inside, f), to), map[uint16]string{22: "ssh", 9: "other"}[to])
	}
	s.up(shutAll + "interfaces: [" + s.gate.Name + "]\ndoors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	each(t, func(t *testing.T, f family) {
		fromInside(22, f)
		fromInside(9, f)
		src := s.stranger(f)
		s.expect(t, src, tcp(22), silence, "where the policy holds")
		s.expect(t, src, tcp(9), silence, "where the policy holds")
		s.knock(src, tcp(1), tcp(2))
		s.expect(t, src, tcp(22), welcomed, "after the knocks")
		// Loopback is never touched.
		for _, to := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), on(s.gate, f)} {
			s.dial(t, s.gw, netip.AddrPortFrom(to, 22), "ssh")
		}
	})
	s.up(shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	each(t, func(t *testing.T, f family) {
		s.dial(t, s.gw, netip.AddrPortFrom(on(s.gate, f), 22), "ssh")
		// The inner host's connections so far go on, but a new one is no other's.
		if conn, err := s.inner.Dial(within(t, 300*time.Millisecond), "tcp", netip.AddrPortFrom(on(s.inside, f), 22)); err == nil {
			conn.Close()
			t.Error("the other interface is not governed either")
		}
	})
}

// TestAllow: what needs no knock, and never touches anyone's progress.
func TestAllow(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.up(shutAll + `
allow:
  - service: tcp/443
  - service: tcp/8000-8002
  - from: 198.51.200.0/24
  - {service: tcp/25, from: 198.51.201.0/24, interface: ` + s.gate.Name + `}
  - {service: tcp/26, interface: elsewhere}
  - {service: udp/53}
  - {service: icmp/echo}
doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}
`)
	for _, port := range []uint16{22, 25, 26, 443, 7999, 8000, 8001, 8002, 8003} {
		serve(t, s.gw, port, "hello")
	}
	serveUDP(t, s.gate, 53)
	each(t, func(t *testing.T, f family) {
		src := s.stranger(f)
		s.knock(src, tcp(1))
		for port, want := range map[policy.Port]answer{tcp(443): welcomed, tcp(8000): welcomed, tcp(8001): welcomed, tcp(8002): welcomed, udp(53): admitted, echo: replied} {
			s.expect(t, src, port, want, "allowed")
		}
		if got := s.path(m, src); !slices.Equal(got, []policy.Port{tcp(1)}) {
			t.Errorf("allowed packets led the source from 1 knock to %v", got)
		}
		s.knock(src, tcp(2))
		s.expect(t, src, tcp(22), welcomed, "a knock with allowed packets inside")
		for _, port := range []policy.Port{tcp(7999), tcp(8003), tcp(25), tcp(26), udp(54)} {
			s.expect(t, src, port, silence, "not allowed")
		}
	})
	s.expect(t, netip.MustParseAddr("198.51.200.3"), tcp(22), welcomed, "from everywhere allowed")
	s.expect(t, netip.MustParseAddr("198.51.201.3"), tcp(25), welcomed, "from its network")
	s.expect(t, netip.MustParseAddr("198.51.201.3"), tcp(22), silence, "another service")
}

// TestGuard: in guard only the doors' services are hidden.
func TestGuard(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.up(hideOnly + `
allow: [{service: tcp/443}]
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}}
  vpn: {service: udp/51820, knock: {sequence: [1, 3]}}
`)
	for _, port := range []uint16{2, 22, 80, 443} { // something listens on a knock port, too
		serve(t, s.gw, port, "hello")
	}
	serveUDP(t, s.gate, 51820)
	serveUDP(t, s.gate, 53)
	each(t, func(t *testing.T, f family) {
		for port, want := range map[policy.Port]answer{
			tcp(22): refused, tcp(23): refused, tcp(1): refused, tcp(2): welcomed, tcp(80): welcomed, tcp(443): welcomed,
			udp(51820): closed, udp(9): closed, udp(53): admitted, echo: replied,
		} {
			s.expect(t, s.stranger(f), port, want, "without knocks")
		}
		src := s.stranger(f)
		s.knock(src, tcp(1))
		s.expect(t, src, tcp(443), welcomed, "allowed")
		if got := s.path(m, src); len(got) != 1 {
			t.Errorf("an allowed packet led the source to %v", got)
		}
		s.knock(src, tcp(2))
		s.expect(t, src, tcp(22), welcomed, "after the knocks")
		s.expect(t, src, tcp(22), refused, "a second connection")
		s.knock(src, tcp(1), tcp(3))
		s.expect(t, src, udp(51820), admitted, "after the knocks")

		src = s.stranger(f)
		s.knock(src, tcp(1), tcp(80), tcp(2))
		s.expect(t, src, tcp(22), refused, "a port that the policy does not name between the knocks")
	})
	s.dial(t, s.client, netip.AddrPortFrom(s.gate.Addr4(), 80), "hello")
}

// TestOddSources: addresses that nobody can have earn nothing.
func TestOddSources(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.up(shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	for _, text := range []string{"127.0.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.255", "192.0.2.2", "0.0.0.0", "::1", "ff02::1", "2001:db8::2", "::"} {
		src := netip.MustParseAddr(text)
		s.knock(src, tcp(1), tcp(2))
		if n := s.granted(src); n > 0 {
			t.Errorf("%s holds %d grants", src, n)
		}
	}
	src := s.stranger(ipv4)
	s.knock(src, tcp(1), tcp(2))
	if n := s.granted(src); n != 1 {
		t.Errorf("an ordinary source holds %d grants, want 1", n)
	}
}
