//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"fmt"
	"net/netip"
	"testing"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// TestAnswers: every backend answers a refused packet as the cover says, whatever
// the cover, the protocol, the posture and the family. A cover, an answer or a
// backend that is new takes part without a word here.
func TestAnswers(t *testing.T) {
	for _, b := range backends.All() {
		for _, posture := range []policy.Posture{policy.Closed, policy.Guard} {
			for _, cover := range policy.Covers() {
				t.Run(fmt.Sprintf("%s/%s/%s", b.Name(), posture, cover), func(t *testing.T) {
					s := newScene(t)
					s.load(b, fmt.Sprintf("version: 1\nposture: %s\ncover: %s\nlog: {target: none}\ndoors:\n"+
						"  ssh: {service: tcp/22, knock: {sequence: [7001, 7002]}}\n"+
						"  dns: {service: udp/53, knock: {sequence: [7003, 7004]}}\n", posture, cover))
					ask := []policy.Protocol{policy.TCP, policy.UDP}
					if posture == policy.Closed { // in guard the rest of the host answers for itself
						ask = append(ask, policy.ICMP, policy.GRE)
					}
					for _, protocol := range ask {
						for _, is6 := range []bool{false, true} {
							if got, want := s.ask(protocol, is6), cover.Answer(protocol); got != want {
								t.Errorf("%s (IPv6: %v): got %s, want %s", protocol, is6, got, want)
							}
						}
					}
				})
			}
		}
	}
}

// A scene is a gateway that runs a policy, and a client beside it.
type scene struct {
	*lab.Lab
	t             *testing.T
	gateway       *lab.Host
	outside, gate *lab.Link // the ends of the client and of the gateway
	sender        *lab.Sender
	wire          *lab.Capture
	clients       byte // addresses that have been used: an error is sent to each but once a second
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{Lab: lab.NewT(t), t: t}
	client := s.Host("client")
	s.gateway = s.Host("gateway")
	s.outside, s.gate = s.Connect(client, s.gateway, "192.0.2.0/24", "2001:db8::/64")
	s.gateway.Route("198.51.100.0/24", s.outside.Addr4())
	s.gateway.Route("2001:db8:c::/64", s.outside.Addr6())
	var err error
	if s.sender, err = s.outside.Sender(); err == nil {
		s.wire, err = s.outside.Capture(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *scene) load(b firewall.Backend, text string) {
	s.t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := b.Machine(p)
	if err == nil {
		err = s.gateway.Do(func() error { return b.Apply(m) })
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// ask sends a packet of a protocol to the hidden service, or to the host, and
// returns the answer.
func (s *scene) ask(protocol policy.Protocol, is6 bool) policy.Answer {
	s.t.Helper()
	s.clients++
	p := &packet.Packet{Src: netip.AddrFrom4([4]byte{198, 51, 100, s.clients}), Dst: s.gate.Addr4()}
	if is6 {
		p.Src = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 15: s.clients})
		p.Dst = s.gate.Addr6()
	}
	switch protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: 40000, DstPort: 22, Seq: 1, Flags: packet.SYN, Window: 64240}
	case policy.UDP:
		p.UDP = &packet.UDP{SrcPort: 40000, DstPort: 53}
	case policy.ICMP:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: 1, Seq: 1}
		if is6 {
			p.ICMP.Type = packet.EchoRequestV6
		}
	default:
		p.Protocol, p.Payload = packet.Protocol(protocol), make([]byte, 8)
	}
	raw, err := p.Append(nil)
	if err == nil {
		s.wire.Drain()
		_, err = s.sender.Send(raw)
	}
	if err == nil {
		err = s.Settle()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	caught, err := s.wire.Drain()
	if err != nil {
		s.t.Fatal(err)
	}
	unreachable, port := uint8(packet.Unreachable), uint8(3) // RFC 792
	if is6 {
		unreachable, port = packet.UnreachableV6, 4 // RFC 4443
	}
	answer := policy.NoAnswer
	for _, c := range caught {
		switch {
		case c.Dst != p.Src:
		case c.TCP != nil && c.TCP.Flags&packet.RST != 0:
			answer = policy.AnswerReset
		case c.ICMP != nil && c.ICMP.Type == unreachable && c.ICMP.Code == port:
			answer = policy.AnswerUnreachable
		case c.ICMP != nil && c.ICMP.Type == unreachable:
			answer = policy.AnswerOther
		default:
			s.t.Errorf("%s (IPv6: %v) is not refused, but answered with protocol %d", protocol, is6, c.Protocol)
		}
	}
	return answer
}
