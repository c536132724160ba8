package nftables

import (
	"fmt"
	"net/netip"
	"testing"

	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// TestBadFlags: whatever flags a segment of no connection has, hidden ports answer
// it like ports with nothing behind them, before, during and after a client's
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
	hidden := []policy.Port{labtest.TCP(22), labtest.TCP(23), labtest.TCP(24), labtest.TCP(25)}
	knocks := []policy.Port{labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(2346), labtest.TCP(2347), labtest.TCP(2348)}
	for _, c := range []struct{ name, policy string }{
		{"closed, drop", labtest.Closed},
		{"closed, reset", labtest.Closed + "cover: reset\n"},
		{"closed, unreachable", labtest.Closed + "cover: unreachable\n"},
		{"guard, reset", labtest.Guard},
		{"guard, drop", labtest.Guard + "cover: drop\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddInner()
			m := s.Up(c.policy + doors)
			for _, port := range []uint16{22, 23} {
				labtest.Greet(t, s.Gateway, port, "gateway")
			}
			labtest.Greet(t, s.Inner, 22, "inner")
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				// In guard with another cover than an idle port's answer, hidden
				// ports are told from idle ones by it, and are alike all the same.
				like := labtest.TCP(9)
				if c.name == "guard, drop" {
					like = labtest.TCP(22)
				}
				for _, flags := range flags {
					ports := append([]policy.Port{like}, hidden...)
					src := s.NewAddress(f)
					for _, when := range [][]policy.Port{
						nil, {labtest.TCP(1234)}, {labtest.TCP(2345)}, {labtest.TCP(1234), labtest.TCP(2346)}, {labtest.TCP(1234), labtest.TCP(2347)}, {labtest.TCP(1234), labtest.TCP(2348)},
					} {
						s.Knock(src, when...)
						answers := s.AskAll(s.flagged(src, f, flags, ports)...)
						for i, got := range answers {
							if got != answers[0] {
								t.Errorf("%s to %s after %v got %s, to %s %s", flags, ports[i], when, got, like, answers[0])
							}
						}
					}
					// They neither knock nor spoil a knock, whatever port they go to.
					src = s.NewAddress(f)
					s.Send(s.flagged(src, f, flags, []policy.Port{labtest.TCP(1234), labtest.TCP(2345)})...)
					s.expectShut(t, src, fmt.Sprintf("%s to the knocks' ports", flags))
					s.Knock(src, labtest.TCP(1234))
					s.Send(s.flagged(src, f, flags, append([]policy.Port{labtest.TCP(9)}, knocks...))...)
					if got := s.path(m, src); len(got) != 1 {
						t.Errorf("%s led the source from one knock to %v", flags, got)
					}
				}
			})
		})
	}
}

// flagged makes segments to the gateway with the same flags.
func (s *scene) flagged(src netip.Addr, f labtest.Family, flags packet.TCPFlags, ports []policy.Port) []*packet.Packet {
	var all []*packet.Packet
	for _, port := range ports {
		p := s.Opening(src, labtest.On(s.Gate, f), port)
		p.TCP.Flags = flags
		all = append(all, p)
	}
	return all
}

// expectShut fails the test if the source has a grant for ssh.
func (s *scene) expectShut(t *testing.T, src netip.Addr, why string) {
	t.Helper()
	if got := s.Try(src, labtest.TCP(22)); got == labtest.SYNACK {
		t.Errorf("%s opened the door", why)
	}
}
