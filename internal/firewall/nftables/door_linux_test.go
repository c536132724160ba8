package nftables

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"postern/internal/policy"
)

// grantFor is how long some grants of TestDoors last.
const grantFor = 2 * time.Second

// TestDoors: what a policy can say about a door.
func TestDoors(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.gate.AddAddress("192.0.2.77/24", "2001:db8::77/64")
	s.up(shutAll + `
doors:
  front: {service: tcp/22, knock: {sequence: [100, 101]}}
  back: {service: tcp/22, knock: {sequence: [100, 102, 103]}}
  both: {service: [tcp/25, tcp/26], knock: {sequence: [110, 111]}}
  time: {service: udp/123, knock: {sequence: [120, udp/121]}}
  tunnel: {service: udp/51820, knock: {sequence: [130, 131]}, admit: any, open_for: 2s}
  web: {service: tcp/80, knock: {sequence: [140, 141]}, admit: any, open_for: 2s}
  friends: {service: tcp/81, knock: {sequence: [150, 151]}, from: [198.51.100.0/25, "2001:db8:c:0:1::/80"]}
  one: {service: tcp/82, address: 192.0.2.77, knock: {sequence: [160, 161]}}
  one6: {service: tcp/82, address: "2001:db8::77", knock: {sequence: [162, 163]}}
  ping: {service: tcp/83, knock: {sequence: [icmp/echo, 170, icmp/echo]}}
  single: {service: tcp/84, knock: {sequence: [180]}}
  mixed: {service: [tcp/85, udp/85], knock: {sequence: [190, 191]}}
  twice: {service: tcp/86, knock: {sequence: [200, 200, 201]}}
`)
	for _, port := range []uint16{22, 25, 26, 80, 81, 82, 83, 84, 85, 86} {
		serve(t, s.gw, port, "hello")
	}
	for _, port := range []uint16{85, 123, 51820} {
		serveUDP(t, s.gate, port)
	}
	each(t, func(t *testing.T, f family) {
		t.Run("two doors on one service", func(t *testing.T) {
			for _, knocks := range [][]policy.Port{{tcp(100), tcp(101)}, {tcp(100), tcp(102), tcp(103)}} {
				src := s.stranger(f)
				s.knock(src, knocks...)
				s.expect(t, src, tcp(22), welcomed, fmt.Sprint(knocks))
				s.expect(t, src, tcp(22), silence, "a second connection")
			}
			src := s.stranger(f)
			s.knock(src, tcp(100), tcp(102), tcp(101))
			s.expect(t, src, tcp(22), silence, "some of the one, some of the other")
			src = s.stranger(f)
			s.knock(src, tcp(100), tcp(101), tcp(100), tcp(102), tcp(103))
			s.expect(t, src, tcp(22), welcomed, "both doors")
			s.expect(t, src, tcp(22), silence, "both doors give one grant")
		})
		t.Run("a door to several services", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(110), tcp(111))
			for _, port := range []policy.Port{tcp(25), tcp(26)} {
				s.expect(t, src, port, welcomed, "one connection to each")
				s.expect(t, src, port, silence, "a second one")
			}
			s.expect(t, src, tcp(22), silence, "another door's service")
		})
		t.Run("UDP, one flow", func(t *testing.T) {
			src := s.stranger(f)
			s.expect(t, src, udp(123), silence, "without knocks")
			s.knock(src, tcp(120), udp(121))
			s.expect(t, src, udp(123), admitted, "after the knocks")
			s.expect(t, src, udp(123), silence, "a second flow")
			udpExchange(t, s, on(s.outside, f), []policy.Port{tcp(120), udp(121)}, netip.AddrPortFrom(on(s.gate, f), 123))
		})
		t.Run("any number, for a time", func(t *testing.T) {
			for _, door := range []struct {
				knocks []policy.Port
				to     policy.Port
				want   answer
			}{{[]policy.Port{tcp(130), tcp(131)}, udp(51820), admitted}, {[]policy.Port{tcp(140), tcp(141)}, tcp(80), welcomed}} {
				src := s.stranger(f)
				s.knock(src, door.knocks...)
				for range 3 {
					s.expect(t, src, door.to, door.want, "while the grant lasts")
				}
				time.Sleep(grantFor + 100*time.Millisecond)
				s.expect(t, src, door.to, silence, "after it")
			}
		})
		t.Run("a new knock renews", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(140), tcp(141))
			time.Sleep(grantFor / 2)
			s.knock(src, tcp(140), tcp(141))
			time.Sleep(grantFor/2 + 100*time.Millisecond)
			s.expect(t, src, tcp(80), welcomed, "after the first grant's time, half into the second's")
		})
		t.Run("from", func(t *testing.T) {
			friend, enemy := "198.51.100.7", "198.51.100.200"
			if f == ipv6 {
				friend, enemy = "2001:db8:c:0:1::7", "2001:db8:c:0:2::7"
			}
			for addr, want := range map[string]answer{friend: welcomed, enemy: silence} {
				src := netip.MustParseAddr(addr)
				s.knock(src, tcp(150), tcp(151))
				s.expect(t, src, tcp(81), want, "from")
			}
		})
		t.Run("address", func(t *testing.T) {
			src, special, knocks := s.stranger(f), netip.MustParseAddr("192.0.2.77"), []policy.Port{tcp(160), tcp(161)}
			if f == ipv6 {
				special, knocks = netip.MustParseAddr("2001:db8::77"), []policy.Port{tcp(162), tcp(163)}
			}
			s.knock(src, knocks...) // at any address
			s.expect(t, src, tcp(82), silence, "at another address")
			src = s.stranger(f)
			s.knock(src, knocks...)
			if got := s.ask(s.opening(src, special, tcp(82))); got != welcomed {
				t.Errorf("at its address: got %s", got)
			}
		})
		t.Run("echo requests as knocks", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, echo, tcp(170), echo)
			s.expect(t, src, tcp(83), welcomed, "after a ping, a knock and a ping")
			src = s.stranger(f)
			s.knock(src, echo, echo, tcp(170))
			s.expect(t, src, tcp(83), silence, "after two pings and a knock")
		})
		t.Run("one knock", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(180))
			s.expect(t, src, tcp(84), welcomed, "after the knock")
		})
		t.Run("a service of two protocols", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(190), tcp(191))
			s.expect(t, src, tcp(85), welcomed, "the one")
			s.expect(t, src, udp(85), admitted, "the other")
		})
		t.Run("a knock made twice", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(200), tcp(200), tcp(201))
			s.expect(t, src, tcp(86), welcomed, "after all")
			src = s.stranger(f)
			s.knock(src, tcp(200), tcp(201))
			s.expect(t, src, tcp(86), silence, "after one")
		})
		t.Run("retransmissions are ignored", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(100), tcp(100), tcp(22), tcp(102), tcp(100), tcp(102), tcp(22), tcp(103), tcp(103))
			s.expect(t, src, tcp(22), welcomed, "with every knock repeated")
		})
	})
}

// TestSourceMask: a whole network counts as one source, where the policy says so.
func TestSourceMask(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.gw.Route("2001:db8:e::/48", s.outside.Addr6())
	s.up(shutAll + `
source: {ipv4: 24, ipv6: 64}
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}}
  web: {service: tcp/80, knock: {sequence: [3, 4]}, from: [198.51.9.7, "2001:db8:e:9::7"]}
`)
	serve(t, s.gw, 22, "ssh")
	serve(t, s.gw, 80, "web")
	for _, a := range [][4]string{
		{"198.51.7.1", "198.51.7.200", "198.51.8.1", "198.51.9."},
		{"2001:db8:e:7::1", "2001:db8:e:7:ffff::1", "2001:db8:e:8::1", "2001:db8:e:9::"},
	} {
		first, same, other := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1]), netip.MustParseAddr(a[2])
		s.knock(first, tcp(1))
		s.knock(same, tcp(2))
		s.expect(t, other, tcp(22), silence, "another network")
		s.expect(t, first, tcp(22), welcomed, "knocks from one network")
		s.expect(t, same, tcp(22), silence, "one grant for the whole network")

		// `from` is about who sends the last knock.
		friend, neighbour := netip.MustParseAddr(a[3]+"7"), netip.MustParseAddr(a[3]+"8")
		s.knock(friend, tcp(3))
		s.knock(neighbour, tcp(4))
		s.expect(t, friend, tcp(80), silence, "the last knock from a stranger of the network")
		s.knock(neighbour, tcp(3))
		s.knock(friend, tcp(4))
		s.expect(t, neighbour, tcp(80), welcomed, "the last knock from the friend")
	}
}
