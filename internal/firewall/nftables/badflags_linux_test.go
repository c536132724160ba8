package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"postern/internal/packet"
	"postern/internal/policy"
)

// TestBadFlags: whatever flags a segment of no connection has, hidden ports answer
// it like ports with nothing behind them, before, during and after somebody's
// knocks; and it is no knock, and no connection.
func TestBadFlags(t *testing.T) {
	t.Parallel()
	const doors = `
doors:
  ssh: {service: tcp/22, knock: {sequence: [1234, 2345]}}
  any: {service: tcp/23, knock: {sequence: [1234, 2346]}, admit: any}
  inner: {service: tcp/24, forward: "10.0.0.2:22", masquerade: true, knock: {sequence: [1234, 2347]}}
  inner6: {service: tcp/25, forward: "[2001:db8:1::2]:22", masquerade: true, knock: {sequence: [1234, 2348]}}
`
	const (
		none = packet.TCPFlags(0)
		xmas = packet.FIN | packet.PSH | packet.URG
		all  = packet.FIN | packet.SYN | packet.RST | packet.PSH | packet.ACK | packet.URG
	)
	flags := []packet.TCPFlags{
		none, xmas, all, packet.FIN, packet.ACK, packet.RST, packet.PSH, packet.URG, packet.RST | packet.ACK,
		packet.FIN | packet.ACK, packet.SYN | packet.RST, packet.SYN | packet.FIN, packet.SYN | packet.ACK,
		packet.SYN | packet.FIN | packet.RST, packet.SYN | packet.RST | packet.ACK, packet.SYN | packet.FIN | packet.ACK,
	}
	hidden := []policy.Port{tcp(22), tcp(23), tcp(24), tcp(25)}
	knocks := []policy.Port{tcp(1234), tcp(2345), tcp(2346), tcp(2347), tcp(2348)}
	for _, c := range []struct{ name, policy string }{
		{"closed, drop", shutAll},
		{"closed, reset", shutAll + "cover: reset\n"},
		{"closed, unreachable", shutAll + "cover: unreachable\n"},
		{"guard, reset", hideOnly},
		{"guard, drop", hideOnly + "cover: drop\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.behind()
			m := s.up(c.policy + doors)
			for _, port := range []uint16{22, 23} {
				serve(t, s.gw, port, "gateway")
			}
			serve(t, s.inner, 22, "inner")
			each(t, func(t *testing.T, f family) {
				// In guard with another cover than an idle port's answer, hidden
				// ports are told from idle ones by it, and are alike all the same.
				like := tcp(9)
				if c.name == "guard, drop" {
					like = tcp(22)
				}
				for _, flags := range flags {
					ports := append([]policy.Port{like}, hidden...)
					src := s.stranger(f)
					for _, when := range [][]policy.Port{
						nil, {tcp(1234)}, {tcp(2345)}, {tcp(1234), tcp(2346)}, {tcp(1234), tcp(2347)}, {tcp(1234), tcp(2348)},
					} {
						s.knock(src, when...)
						answers := s.askAll(s.flagged(src, f, flags, ports)...)
						for i, got := range answers {
							if got != answers[0] {
								t.Errorf("%s to %s after %v got %s, to %s %s", flags, ports[i], when, got, like, answers[0])
							}
						}
					}
					// They neither knock nor spoil a knock, whatever port they go to.
					src = s.stranger(f)
					s.send(s.flagged(src, f, flags, []policy.Port{tcp(1234), tcp(2345)})...)
					s.expectShut(t, src, fmt.Sprintf("%s to the knocks' ports", flags))
					s.knock(src, tcp(1234))
					s.send(s.flagged(src, f, flags, append([]policy.Port{tcp(9)}, knocks...))...)
					if got := s.path(m, src); len(got) != 1 {
						t.Errorf("%s led the source from one knock to %v", flags, got)
					}
				}
			})
		})
	}
}

// flagged makes segments to the gateway with the same flags.
func (s *scene) flagged(src netip.Addr, f family, flags packet.TCPFlags, ports []policy.Port) []*packet.Packet {
	var all []*packet.Packet
	for _, port := range ports {
		p := s.opening(src, on(s.gate, f), port)
		p.TCP.Flags = flags
		all = append(all, p)
	}
	return all
}

// expectShut tells that the source has no grant for ssh.
func (s *scene) expectShut(t *testing.T, src netip.Addr, why string) {
	t.Helper()
	if got := s.try(src, tcp(22)); got == welcomed {
		t.Errorf("%s opened the door", why)
	}
}
