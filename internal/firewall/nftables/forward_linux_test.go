package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestForward: a hidden service on another host, with a way back of its own or
// none, over TCP and UDP.
func TestForward(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.behind()
	s.up(shutAll + `
doors:
  routed: {service: tcp/443, forward: "10.0.0.2:8443", knock: {sequence: [7, 8]}}
  routed6: {service: tcp/444, forward: "[2001:db8:1::2]:8443", knock: {sequence: [17, 18]}}
  masked: {service: tcp/1443, forward: "10.0.0.2:8443", masquerade: true, knock: {sequence: [9, 10]}}
  masked6: {service: tcp/1444, forward: "[2001:db8:1::2]:8443", masquerade: true, knock: {sequence: [19, 20]}}
  names: {service: udp/5353, forward: "10.0.0.2:53", knock: {sequence: [11, 12]}}
  names6: {service: udp/5354, forward: "[2001:db8:1::2]:53", knock: {sequence: [21, 22]}}
allow:
  - from: 198.51.200.0/24
  - {service: tcp/443, from: 198.51.201.1}
  - from: 2001:db8:a::/64
`)
	s.gw.Route("2001:db8:a::/64", s.outside.Addr6())
	serve(t, s.inner, 8443, "inner")
	serve(t, s.gw, 443, "the gateway itself") // must never be reached
	serveUDP(t, s.home, 53)
	atInner, err := s.home.Capture(func(p *packet.Packet) bool { return p.TCP != nil || p.UDP != nil })
	if err != nil {
		t.Fatal(err)
	}
	// reached gives what has reached the inner host since it was asked last.
	reached := func(t *testing.T, f family) []lab.Captured {
		t.Helper()
		s.settle()
		got, err := atInner.Drain()
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(got, func(c lab.Captured) bool { return c.Out || of(c.Src) != f })
	}
	knocks := func(f family, n uint16) []policy.Port {
		if f == ipv6 {
			n += 10
		}
		return []policy.Port{tcp(n), tcp(n + 1)}
	}
	each(t, func(t *testing.T, f family) {
		shift := uint16(0)
		if f == ipv6 {
			shift = 1
		}
		t.Run("shut", func(t *testing.T) {
			reached(t, f)
			for _, port := range []policy.Port{tcp(443 + shift), tcp(1443 + shift), udp(5353 + shift)} {
				src := s.stranger(f)
				s.expect(t, src, port, silence, "without knocks")
				if port.Protocol != policy.TCP {
					continue
				}
				for _, flags := range []packet.TCPFlags{packet.ACK, packet.FIN, 0, packet.SYN | packet.ACK, packet.RST, packet.FIN | packet.PSH | packet.URG} {
					p := s.opening(src, on(s.gate, f), port)
					p.TCP.Flags = flags
					if got := s.ask(p); got != silence {
						t.Errorf("%s to %s got %s", flags, port, got)
					}
				}
			}
			if got := reached(t, f); len(got) > 0 {
				t.Errorf("the inner host was sent %v", got)
			}
		})
		t.Run("routed", func(t *testing.T) {
			at := netip.AddrPortFrom(on(s.gate, f), 443+shift)
			s.knock(on(s.outside, f), knocks(f, 7)...)
			c := s.dial(t, s.client, at, "inner")
			if err := c.talk(); err != nil {
				t.Error(err)
			}
			s.expect(t, on(s.outside, f), tcp(443+shift), silence, "a second connection")
			if err := c.talk(); err != nil {
				t.Error(err)
			}
		})
		t.Run("no way back", func(t *testing.T) {
			// The inner host does not know where the client is. In the other
			// direction the routed door shows that it makes a difference.
			src := s.stranger(f)
			s.knock(src, knocks(f, 9)...)
			s.expect(t, src, tcp(1443+shift), welcomed, "masquerade")
			src = s.stranger(f)
			s.knock(src, knocks(f, 7)...)
			s.expect(t, src, tcp(443+shift), silence, "no masquerade, and no route back")
		})
		t.Run("hairpin", func(t *testing.T) {
			// The inner host uses the gateway's outer address for its own service.
			sender, err := s.home.Sender()
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range knocks(f, 9) {
				raw, err := s.opening(on(s.home, f), on(s.gate, f), port).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := sender.Send(raw); err != nil {
					t.Fatal(err)
				}
				s.settle()
			}
			c := s.dial(t, s.inner, netip.AddrPortFrom(on(s.gate, f), 1443+shift), "inner")
			if err := c.talk(); err != nil {
				t.Error(err)
			}
		})
		t.Run("allowed", func(t *testing.T) {
			friend := netip.MustParseAddr("198.51.200.1")
			if f == ipv6 {
				friend = netip.MustParseAddr("2001:db8:a::1")
			}
			s.expect(t, friend, tcp(1443+shift), welcomed, "from everywhere allowed")
		})
		t.Run("datagrams", func(t *testing.T) {
			src := s.stranger(f)
			reached(t, f)
			s.knock(src, knocks(f, 11)...)
			p := s.opening(src, on(s.gate, f), udp(5353+shift))
			s.send(p, p, p)
			other := s.opening(src, on(s.gate, f), udp(5353+shift))
			s.send(other)
			n := 0
			for _, c := range reached(t, f) {
				if c.UDP != nil && c.UDP.DstPort == 53 {
					n++
				}
				if c.UDP != nil && c.UDP.SrcPort == other.UDP.SrcPort {
					t.Error("a second flow got in")
				}
			}
			if n != 3 {
				t.Errorf("%d of 3 datagrams reached the inner host", n)
			}
			udpExchange(t, s, on(s.outside, f), knocks(f, 11), netip.AddrPortFrom(on(s.gate, f), 5353+shift))
		})
	})
	t.Run("allowed for the one service", func(t *testing.T) {
		reached(t, ipv4)
		s.send(s.opening(netip.MustParseAddr("198.51.201.1"), s.gate.Addr4(), tcp(443)))
		if len(reached(t, ipv4)) == 0 {
			t.Error("nothing reached the inner host")
		}
		s.expect(t, netip.MustParseAddr("198.51.201.1"), tcp(1443), silence, "another service")
	})
}

// udpExchange knocks, then talks over a real socket: more datagrams than there
// are grants, and the first ones faster than an answer can come.
func udpExchange(t *testing.T, s *scene, src netip.Addr, knocks []policy.Port, to netip.AddrPort) {
	t.Helper()
	s.knock(src, knocks...)
	s.settle()
	conn, err := s.client.Dial(soon(t), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 5 {
		if _, err := conn.Write([]byte("burst")); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 100)
	read := func() {
		t.Helper()
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := conn.Read(b); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		read()
	}
	for range 50 {
		if _, err := conn.Write([]byte("more")); err != nil {
			t.Fatal(err)
		}
		read()
	}
	second, err := s.client.Dial(soon(t), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Write([]byte("me too")); err != nil {
		t.Fatal(err)
	}
	s.settle()
	second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.Read(b); err == nil {
		t.Errorf("a second flow got an answer of %d octets", n)
	}
}
