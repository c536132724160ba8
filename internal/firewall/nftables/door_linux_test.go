package nftables

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// grantFor is how long some grants of TestDoors last.
const grantFor = 2 * time.Second

// TestDoors: what a policy can say about a door.
func TestDoors(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Gate.AddAddress("192.0.2.77/24", "2001:db8::77/64")
	s.Up(labtest.Closed + `
doors:
  front: {service: tcp/22, knock: {sequence: [100, 101]}}
  back: {service: tcp/22, knock: {sequence: [100, 102, 103]}}
  both: {service: [tcp/25, tcp/26], knock: {sequence: [110, 111]}}
  time: {service: udp/123, knock: {sequence: [120, udp/121]}}
  tunnel: {service: udp/51820, knock: {sequence: [130, 131]}, admit: any, open_for: 2s}
  web: {service: tcp/80, knock: {sequence: [140, 141]}, admit: any, open_for: 2s}
  friends: {service: tcp/81, knock: {sequence: [150, 151]}, from: [198.51.100.0/25, "3fff:c:0:0:1::/80"]}
  one: {service: tcp/82, address: 192.0.2.77, knock: {sequence: [160, 161]}}
  one6: {service: tcp/82, address: "2001:db8::77", knock: {sequence: [162, 163]}}
  ping: {service: tcp/83, knock: {sequence: [icmp/echo, 170, icmp/echo]}}
  single: {service: tcp/84, knock: {sequence: [180]}}
  mixed: {service: [tcp/85, udp/85], knock: {sequence: [190, 191]}}
  twice: {service: tcp/86, knock: {sequence: [200, 200, 201]}}
`)
	for _, port := range []uint16{22, 25, 26, 80, 81, 82, 83, 84, 85, 86} {
		labtest.Greet(t, s.Gateway, port, "hello")
	}
	for _, port := range []uint16{85, 123, 51820} {
		labtest.EchoUDP(t, s.Gate, port)
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		t.Run("two doors on one service", func(t *testing.T) {
			for _, knocks := range [][]policy.Port{{labtest.TCP(100), labtest.TCP(101)}, {labtest.TCP(100), labtest.TCP(102), labtest.TCP(103)}} {
				src := s.NewAddress(f)
				s.Knock(src, knocks...)
				s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, fmt.Sprint(knocks))
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a second connection")
			}
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(100), labtest.TCP(102), labtest.TCP(101))
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "some of the one, some of the other")
			src = s.NewAddress(f)
			s.Knock(src, labtest.TCP(100), labtest.TCP(101), labtest.TCP(100), labtest.TCP(102), labtest.TCP(103))
			s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "the grant of one door")
			s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "the grant of the other")
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a third connection")
		})
		t.Run("a door to several services", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(110), labtest.TCP(111))
			for _, port := range []policy.Port{labtest.TCP(25), labtest.TCP(26)} {
				s.Expect(t, src, port, labtest.SYNACK, "one connection to each")
				s.Expect(t, src, port, labtest.Silence, "a second one")
			}
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "another door's service")
		})
		t.Run("UDP, one flow", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Expect(t, src, labtest.UDP(123), labtest.Silence, "without knocks")
			s.Knock(src, labtest.TCP(120), labtest.UDP(121))
			s.Expect(t, src, labtest.UDP(123), labtest.Received, "after the knocks")
			s.Expect(t, src, labtest.UDP(123), labtest.Silence, "a second flow")
			udpExchange(t, s, labtest.On(s.Outside, f), []policy.Port{labtest.TCP(120), labtest.UDP(121)}, netip.AddrPortFrom(labtest.On(s.Gate, f), 123))
		})
		t.Run("any number, for a time", func(t *testing.T) {
			for _, door := range []struct {
				knocks []policy.Port
				to     policy.Port
				want   labtest.Answer
			}{{[]policy.Port{labtest.TCP(130), labtest.TCP(131)}, labtest.UDP(51820), labtest.Received}, {[]policy.Port{labtest.TCP(140), labtest.TCP(141)}, labtest.TCP(80), labtest.SYNACK}} {
				src := s.NewAddress(f)
				s.Knock(src, door.knocks...)
				for range 3 {
					s.Expect(t, src, door.to, door.want, "while the grant lasts")
				}
				time.Sleep(grantFor + 100*time.Millisecond)
				s.Expect(t, src, door.to, labtest.Silence, "after it")
			}
		})
		t.Run("a new knock renews", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(140), labtest.TCP(141))
			time.Sleep(grantFor / 2)
			s.Knock(src, labtest.TCP(140), labtest.TCP(141))
			time.Sleep(grantFor/2 + 100*time.Millisecond)
			s.Expect(t, src, labtest.TCP(80), labtest.SYNACK, "after the first grant's time, half into the second's")
		})
		t.Run("from", func(t *testing.T) {
			friend, enemy := "198.51.100.7", "198.51.100.200"
			if f == labtest.IPv6 {
				friend, enemy = "3fff:c:0:0:1::7", "3fff:c:0:0:2::7"
			}
			for addr, want := range map[string]labtest.Answer{friend: labtest.SYNACK, enemy: labtest.Silence} {
				src := netip.MustParseAddr(addr)
				s.Knock(src, labtest.TCP(150), labtest.TCP(151))
				s.Expect(t, src, labtest.TCP(81), want, "from")
			}
		})
		t.Run("address", func(t *testing.T) {
			src, special, knocks := s.NewAddress(f), netip.MustParseAddr("192.0.2.77"), []policy.Port{labtest.TCP(160), labtest.TCP(161)}
			if f == labtest.IPv6 {
				special, knocks = netip.MustParseAddr("2001:db8::77"), []policy.Port{labtest.TCP(162), labtest.TCP(163)}
			}
			s.Knock(src, knocks...) // at any address
			s.Expect(t, src, labtest.TCP(82), labtest.Silence, "at another address")
			src = s.NewAddress(f)
			s.Knock(src, knocks...)
			if got := s.Ask(s.Opening(src, special, labtest.TCP(82))); got != labtest.SYNACK {
				t.Errorf("at its address: got %s", got)
			}
		})
		t.Run("echo requests as knocks", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.Echo, labtest.TCP(170), labtest.Echo)
			s.Expect(t, src, labtest.TCP(83), labtest.SYNACK, "after a ping, a knock and a ping")
			src = s.NewAddress(f)
			s.Knock(src, labtest.Echo, labtest.Echo, labtest.TCP(170))
			s.Expect(t, src, labtest.TCP(83), labtest.Silence, "after two pings and a knock")
		})
		t.Run("one knock", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(180))
			s.Expect(t, src, labtest.TCP(84), labtest.SYNACK, "after the knock")
		})
		t.Run("a service of two protocols", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(190), labtest.TCP(191))
			s.Expect(t, src, labtest.TCP(85), labtest.SYNACK, "the one")
			s.Expect(t, src, labtest.UDP(85), labtest.Received, "the other")
		})
		t.Run("a knock made twice", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(200), labtest.TCP(200), labtest.TCP(201))
			s.Expect(t, src, labtest.TCP(86), labtest.SYNACK, "after all")
			src = s.NewAddress(f)
			s.Knock(src, labtest.TCP(200), labtest.TCP(201))
			s.Expect(t, src, labtest.TCP(86), labtest.Silence, "after one")
		})
		t.Run("retransmissions are ignored", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(100), labtest.TCP(100), labtest.TCP(22), labtest.TCP(102), labtest.TCP(100), labtest.TCP(102), labtest.TCP(22), labtest.TCP(103), labtest.TCP(103))
			s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "with every knock repeated")
		})
	})
}

// TestSourceMask: a whole network counts as one source, where the policy says so.
func TestSourceMask(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Gateway.Route("2001:db8:e::/48", s.Outside.Addr6())
	s.Up(labtest.Closed + `
source: {ipv4: 24, ipv6: 64}
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}}
  web: {service: tcp/80, knock: {sequence: [3, 4]}, from: [198.51.9.7, "2001:db8:e:9::7"]}
`)
	labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.Greet(t, s.Gateway, 80, "web")
	for _, a := range [][4]string{
		{"198.51.7.1", "198.51.7.200", "198.51.8.1", "198.51.9."},
		{"2001:db8:e:7::1", "2001:db8:e:7:ffff::1", "2001:db8:e:8::1", "2001:db8:e:9::"},
	} {
		first, same, other := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1]), netip.MustParseAddr(a[2])
		s.Knock(first, labtest.TCP(1))
		s.Knock(same, labtest.TCP(2))
		s.Expect(t, other, labtest.TCP(22), labtest.Silence, "another network")
		s.Expect(t, first, labtest.TCP(22), labtest.SYNACK, "knocks from one network")
		s.Expect(t, same, labtest.TCP(22), labtest.Silence, "one grant for the whole network")

		// `from` is about who sends the last knock.
		friend, neighbour := netip.MustParseAddr(a[3]+"7"), netip.MustParseAddr(a[3]+"8")
		s.Knock(friend, labtest.TCP(3))
		s.Knock(neighbour, labtest.TCP(4))
		s.Expect(t, friend, labtest.TCP(80), labtest.Silence, "the last knock from another address of the network")
		s.Knock(neighbour, labtest.TCP(3))
		s.Knock(friend, labtest.TCP(4))
		s.Expect(t, neighbour, labtest.TCP(80), labtest.SYNACK, "the last knock from the friend")
	}
}
