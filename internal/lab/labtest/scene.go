//go:build linux

package labtest

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A Scene is the network of most tests: a client, and the gateway that runs a
// policy. The client also sends from addresses that are not its own, and gets the
// answers.
type Scene struct {
	*lab.Lab
	T               *testing.T
	Backend         firewall.Backend
	Client, Gateway *lab.Host
	Outside, Gate   *lab.Link // the cable between them: the client's end, the gateway's
	Inner           *lab.Host // behind the gateway, once AddInner was called
	Inside, Home    *lab.Link // the cable between gateway and inner host
	Sender          *lab.Sender
	Wire            *lab.Capture // of Outside
	Datagrams       *lab.Capture // that reach the gateway's sockets, answered or not
	CPU             int          // sends, so that packets arrive in order

	addresses map[Family]uint16 // how many NewAddress has returned
	Port      uint16            // the last source port that Opening used
}

// How most policies of tests begin. A namespace's log lines go nowhere.
const (
	Closed = "version: 1\nposture: closed\nlog: {target: none}\n"
	Guard  = "version: 1\nposture: guard\nlog: {target: none}\n"
)

// NewScene builds the network. The gateway runs nothing yet: see Up.
func NewScene(t *testing.T, b firewall.Backend) *Scene {
	t.Helper()
	s := &Scene{Lab: lab.NewT(t), T: t, Backend: b, addresses: map[Family]uint16{}, Port: 20000}
	s.Client, s.Gateway = s.Host("client"), s.Host("gw")
	s.Outside, s.Gate = s.Connect(s.Client, s.Gateway, "192.0.2.0/24", "2001:db8::/64")
	s.Gateway.Route("198.51.0.0/16", s.Outside.Addr4())
	s.Gateway.Route(addresses6.String(), s.Outside.Addr6())
	// No host behind the client answers a SYN-ACK; do not retransmit it.
	s.Gateway.Sysctl("net.ipv4.tcp_synack_retries", "0")
	s.CPU = CPUs(t)[0]
	var err error
	if s.Sender, err = s.Outside.Sender(); err != nil {
		t.Fatal(err)
	}
	if s.Wire, err = s.Outside.Capture(nil); err != nil {
		t.Fatal(err)
	}
	if s.Datagrams, err = s.Gateway.Admitted(packet.ProtocolUDP, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// AddInner adds a host to which the gateway forwards. It has a route to the
// client, and none to the addresses that NewAddress returns.
func (s *Scene) AddInner() {
	s.Inner = s.Host("inner")
	s.Inside, s.Home = s.Connect(s.Gateway, s.Inner, "10.0.0.0/24", "2001:db8:1::/64")
	s.Inner.Route("192.0.2.0/24", s.Inside.Addr4())
	s.Inner.Route("2001:db8::/64", s.Inside.Addr6())
	s.Gateway.Sysctl("net.ipv4.ip_forward", "1")
	s.Gateway.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// CPUs returns those that this process may use.
func CPUs(t testing.TB) []int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &set); err != nil {
		t.Fatal(err)
	}
	var all []int
	for cpu := 0; len(all) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			all = append(all, cpu)
		}
	}
	return all
}

// Compile returns the machine that a backend makes of a policy's text.
func Compile(t testing.TB, b firewall.Backend, text string) *automaton.Machine {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.Machine(p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Apply has a host run a machine.
func Apply(t testing.TB, h *lab.Host, b firewall.Backend, m *automaton.Machine) {
	t.Helper()
	if err := h.Do(func() error { return b.Apply(m) }); err != nil {
		t.Fatal(err)
	}
}

// Inspect returns what a host runs for a backend.
func Inspect(t testing.TB, h *lab.Host, b firewall.Backend) (status *firewall.Status) {
	t.Helper()
	if err := h.Do(func() (err error) {
		if status, err = b.Inspect(); err != nil {
			return err
		}
		return firewall.ReadSources(b, status)
	}); err != nil {
		t.Fatal(err)
	}
	return status
}

// Up has the gateway run a policy.
func (s *Scene) Up(text string) *automaton.Machine {
	s.T.Helper()
	m := Compile(s.T, s.Backend, text)
	s.Apply(m)
	return m
}

// Apply has the gateway run a machine.
func (s *Scene) Apply(m *automaton.Machine) {
	s.T.Helper()
	Apply(s.T, s.Gateway, s.Backend, m)
}

// Inspect returns what the gateway runs, after all that was sent has arrived.
func (s *Scene) Inspect() *firewall.Status {
	s.T.Helper()
	s.Settled()
	return Inspect(s.T, s.Gateway, s.Backend)
}

// addresses6 are the IPv6 addresses that NewAddress returns (documentation, RFC 9637).
var addresses6 = netip.MustParsePrefix("3fff:c::/32")

// NewAddress returns an unused address that the client can send from, for IPv6 in a
// /48 of its own: what other addresses did, also to their budget, does not affect it.
func (s *Scene) NewAddress(f Family) netip.Addr {
	s.addresses[f]++
	hi, lo := byte(s.addresses[f]>>8), byte(s.addresses[f])
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{198, 51, hi, lo})
	}
	a := addresses6.Addr().As16()
	a[4], a[5], a[15] = hi, lo, 1
	return netip.AddrFrom16(a)
}

// TCP and UDP return ports.
func TCP(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
func UDP(n uint16) policy.Port { return policy.Port{Protocol: policy.UDP, Number: n} }

// Echo is an ICMP echo request as a knock.
var Echo = policy.Port{Protocol: policy.ICMP}

// Opening returns a packet that would open a connection, from a source port that
// no other one has.
func (s *Scene) Opening(src, dst netip.Addr, to policy.Port) *packet.Packet {
	s.Port++
	p := &packet.Packet{Src: src, Dst: dst}
	switch to.Protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: s.Port, DstPort: to.Number, Seq: 1000 * uint32(s.Port), Flags: packet.SYN, Window: 64240}
	case policy.UDP:
		p.UDP = &packet.UDP{SrcPort: s.Port, DstPort: to.Number}
		p.Payload = []byte("hello")
	default:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: s.Port}
		if src.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	}
	return p
}

// ToGateway returns an Opening from src to a port of the gateway.
func (s *Scene) ToGateway(src netip.Addr, to policy.Port) *packet.Packet {
	return s.Opening(src, On(s.Gate, Of(src)), to)
}

// Settled waits until what was sent, and every answer to it, has arrived.
func (s *Scene) Settled() {
	s.T.Helper()
	if err := s.Lab.Settle(); err != nil {
		s.T.Fatal(err)
	}
}

// Send sends packets from the client. They arrive in order.
func (s *Scene) Send(packets ...*packet.Packet) {
	s.T.Helper()
	raw := make([][]byte, len(packets))
	for i, p := range packets {
		var err error
		if raw[i], err = p.Append(nil); err != nil {
			s.T.Fatal(err)
		}
	}
	if err := lab.OnCPU(s.CPU, func() error { _, err := s.Sender.Send(raw...); return err }); err != nil {
		s.T.Fatal(err)
	}
}

// Knock sends one opening packet to each port of the gateway, in order.
func (s *Scene) Knock(src netip.Addr, ports ...policy.Port) {
	s.T.Helper()
	var packets []*packet.Packet
	for _, port := range ports {
		packets = append(packets, s.ToGateway(src, port))
	}
	s.Send(packets...)
}

// An Answer is what a sender sees of what became of its packet.
type Answer string

const (
	Silence     Answer = "silence"
	SYNACK      Answer = "a SYN-ACK"
	RST         Answer = "a RST"
	Unreachable Answer = "port unreachable"
	Received    Answer = "in" // a datagram; whether it is answered is up to the program
	EchoReply   Answer = "an echo reply"
)

// Ask sends one packet and returns what comes back.
func (s *Scene) Ask(p *packet.Packet) Answer {
	s.T.Helper()
	return s.AskAll(p)[0]
}

// AskAll sends packets in order and returns what comes back for each.
func (s *Scene) AskAll(packets ...*packet.Packet) []Answer {
	s.T.Helper()
	drain := func(c *lab.Capture) []lab.Captured {
		s.T.Helper()
		got, err := c.Drain()
		if err != nil {
			s.T.Fatal(err)
		}
		return got
	}
	drain(s.Wire)
	drain(s.Datagrams)
	s.Send(packets...)
	s.Settled()
	wire, datagrams := drain(s.Wire), drain(s.Datagrams)
	answers := make([]Answer, len(packets))
	for i, p := range packets {
		answers[i] = Silence
		for _, c := range datagrams {
			if p.UDP != nil && c.Src == p.Src && c.UDP.SrcPort == p.UDP.SrcPort {
				answers[i] = Received
			}
		}
		for _, c := range wire {
			if c.Out || c.Dst != p.Src {
				continue
			}
			if a := AnswerTo(p, c.Packet); a != Silence {
				answers[i] = a
			}
		}
	}
	return answers
}

// AnswerTo returns what a packet that came back answers to one that was sent.
func AnswerTo(p, c *packet.Packet) Answer {
	switch {
	case c.TCP != nil && p.TCP != nil && c.TCP.DstPort == p.TCP.SrcPort && c.TCP.SrcPort == p.TCP.DstPort:
		if c.TCP.Flags&packet.RST != 0 {
			return RST
		}
		if c.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK {
			return SYNACK
		}
		return Answer("a TCP packet " + c.TCP.Flags.String())
	case c.ICMP != nil && (c.ICMP.Type == packet.EchoReply && c.Src.Is4() || c.ICMP.Type == packet.EchoReplyV6 && c.Src.Is6()):
		if p.ICMP != nil && p.ICMP.ID == c.ICMP.ID {
			return EchoReply
		}
	case c.ICMP != nil && (c.ICMP.Type == packet.Unreachable && c.Src.Is4() && c.ICMP.Code == 3 ||
		c.ICMP.Type == packet.UnreachableV6 && c.Src.Is6() && c.ICMP.Code == 4):
		return Unreachable
	case c.ICMP != nil && (c.ICMP.Type == packet.Unreachable && c.Src.Is4() || c.ICMP.Type == packet.UnreachableV6 && c.Src.Is6()):
		return Answer(fmt.Sprintf("unreachable with code %d", c.ICMP.Code))
	}
	return Silence
}

// Try asks for a port of the gateway.
func (s *Scene) Try(src netip.Addr, to policy.Port) Answer {
	s.T.Helper()
	return s.Ask(s.ToGateway(src, to))
}

// Expect tries a port, and fails the test with why if the answer is another.
func (s *Scene) Expect(t *testing.T, src netip.Addr, to policy.Port, want Answer, why string) {
	t.Helper()
	if got := s.Try(src, to); got != want {
		t.Errorf("%s: %s from %s got %s, want %s", why, to, src, got, want)
	}
}

// Dial connects from a host once all that was sent has arrived, and reads the
// greeting, unless that is empty.
func (s *Scene) Dial(t *testing.T, from *lab.Host, to netip.AddrPort, greeting string) *Session {
	t.Helper()
	s.Settled()
	return Dial(t, from, to, greeting)
}
