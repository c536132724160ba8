package nftables

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestForward: a hidden service on another host, with a way back of its own or
// none, over TCP and UDP.
func TestForward(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddInner()
	s.Up(labtest.Closed + `
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
	s.Gateway.Route("2001:db8:a::/64", s.Outside.Addr6())
	labtest.Greet(t, s.Inner, 8443, "inner")
	labtest.Greet(t, s.Gateway, 443, "the gateway itself") // must never be reached
	labtest.EchoUDP(t, s.Home, 53)
	atInner, err := s.Home.Capture(func(p *packet.Packet) bool { return p.TCP != nil || p.UDP != nil })
	if err != nil {
		t.Fatal(err)
	}
	// reached returns what has reached the inner host since it was asked last.
	reached := func(t *testing.T, f labtest.Family) []lab.Captured {
		t.Helper()
		s.Settled()
		got, err := atInner.Drain()
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(got, func(c lab.Captured) bool { return c.Out || labtest.Of(c.Src) != f })
	}
	knocks := func(f labtest.Family, n uint16) []policy.Port {
		if f == labtest.IPv6 {
			n += 10
		}
		return []policy.Port{labtest.TCP(n), labtest.TCP(n + 1)}
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		shift := uint16(0)
		if f == labtest.IPv6 {
			shift = 1
		}
		t.Run("shut", func(t *testing.T) {
			reached(t, f)
			for _, port := range []policy.Port{labtest.TCP(443 + shift), labtest.TCP(1443 + shift), labtest.UDP(5353 + shift)} {
				src := s.NewAddress(f)
				s.Expect(t, src, port, labtest.Silence, "without knocks")
				if port.Protocol != policy.TCP {
					continue
				}
				for _, flags := range []packet.TCPFlags{packet.ACK, packet.FIN, 0, packet.SYN | packet.ACK, packet.RST, packet.FIN | packet.PSH | packet.URG} {
					p := s.Opening(src, labtest.On(s.Gate, f), port)
					p.TCP.Flags = flags
					if got := s.Ask(p); got != labtest.Silence {
						t.Errorf("%s to %s got %s", flags, port, got)
					}
				}
			}
			if got := reached(t, f); len(got) > 0 {
				t.Errorf("the inner host was sent %v", got)
			}
		})
		t.Run("routed", func(t *testing.T) {
			at := netip.AddrPortFrom(labtest.On(s.Gate, f), 443+shift)
			s.Knock(labtest.On(s.Outside, f), knocks(f, 7)...)
			c := s.Dial(t, s.Client, at, "inner")
			if err := c.Talk(); err != nil {
				t.Error(err)
			}
			s.Expect(t, labtest.On(s.Outside, f), labtest.TCP(443+shift), labtest.Silence, "a second connection")
			if err := c.Talk(); err != nil {
				t.Error(err)
			}
		})
		t.Run("no way back", func(t *testing.T) {
			// The inner host does not know where the client is. In the other
			// direction the routed door shows that it makes a difference.
			src := s.NewAddress(f)
			s.Knock(src, knocks(f, 9)...)
			s.Expect(t, src, labtest.TCP(1443+shift), labtest.SYNACK, "masquerade")
			src = s.NewAddress(f)
			s.Knock(src, knocks(f, 7)...)
			s.Expect(t, src, labtest.TCP(443+shift), labtest.Silence, "no masquerade, and no route back")
		})
		t.Run("hairpin", func(t *testing.T) {
			// The inner host uses the gateway's outer address for its own service.
			sender, err := s.Home.Sender()
			if err != nil {
				t.Fatal(err)
			}
			for _, port := range knocks(f, 9) {
				raw, err := s.Opening(labtest.On(s.Home, f), labtest.On(s.Gate, f), port).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := sender.Send(raw); err != nil {
					t.Fatal(err)
				}
				s.Settled()
			}
			c := s.Dial(t, s.Inner, netip.AddrPortFrom(labtest.On(s.Gate, f), 1443+shift), "inner")
			if err := c.Talk(); err != nil {
				t.Error(err)
			}
		})
		t.Run("allowed", func(t *testing.T) {
			friend := netip.MustParseAddr("198.51.200.1")
			if f == labtest.IPv6 {
				friend = netip.MustParseAddr("2001:db8:a::1")
			}
			s.Expect(t, friend, labtest.TCP(1443+shift), labtest.SYNACK, "from everywhere allowed")
		})
		t.Run("datagrams", func(t *testing.T) {
			src := s.NewAddress(f)
			reached(t, f)
			s.Knock(src, knocks(f, 11)...)
			p := s.Opening(src, labtest.On(s.Gate, f), labtest.UDP(5353+shift))
			s.Send(p, p, p)
			other := s.Opening(src, labtest.On(s.Gate, f), labtest.UDP(5353+shift))
			s.Send(other)
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
			udpExchange(t, s, labtest.On(s.Outside, f), knocks(f, 11), netip.AddrPortFrom(labtest.On(s.Gate, f), 5353+shift))
		})
	})
	t.Run("allowed for the one service", func(t *testing.T) {
		reached(t, labtest.IPv4)
		s.Send(s.Opening(netip.MustParseAddr("198.51.201.1"), s.Gate.Addr4(), labtest.TCP(443)))
		if len(reached(t, labtest.IPv4)) == 0 {
			t.Error("nothing reached the inner host")
		}
		s.Expect(t, netip.MustParseAddr("198.51.201.1"), labtest.TCP(1443), labtest.Silence, "another service")
	})
}

// udpExchange knocks, then talks over a real socket: more datagrams than there
// are grants, and the first ones faster than an answer can come.
func udpExchange(t *testing.T, s *scene, src netip.Addr, knocks []policy.Port, to netip.AddrPort) {
	t.Helper()
	s.Knock(src, knocks...)
	s.Settled()
	conn, err := s.Client.Dial(labtest.Soon(t), "udp", to)
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
	second, err := s.Client.Dial(labtest.Soon(t), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := second.Write([]byte("me too")); err != nil {
		t.Fatal(err)
	}
	s.Settled()
	second.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := second.Read(b); err == nil {
		t.Errorf("a second flow got an answer of %d octets", n)
	}
}
