package nftables

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A scene is the network of most tests: a client and the gateway that runs a
// policy. The client also sends in the name of others, the strangers, whose
// answers it gets.
type scene struct {
	*lab.Lab
	t                 *testing.T
	client, gw, inner *lab.Host // the last one only after behind
	outside, gate     *lab.Link // the cable between the client and the gateway
	inside, home      *lab.Link // the cable between the gateway and the inner host
	sender            *lab.Sender
	cpu               int          // that sends, so that packets arrive in order
	wire              *lab.Capture // on outside
	datagrams         *lab.Capture // admitted by the gateway, whether it answers them or not

	strangers uint16
	port      uint16
}

// How most policies here begin. A lab's kernel log lines go nowhere.
const (
	shutAll  = "version: 1\nposture: closed\nlog: {target: none}\n"
	hideOnly = "version: 1\nposture: guard\nlog: {target: none}\n"
)

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{Lab: lab.NewT(t), t: t, port: 20000}
	s.client, s.gw = s.Host("client"), s.Host("gw")
	s.outside, s.gate = s.Connect(s.client, s.gw, "192.0.2.0/24", "2001:db8::/64")
	s.gw.Route("198.51.0.0/16", s.outside.Addr4())
	s.gw.Route("2001:db8:c::/64", s.outside.Addr6())
	// Nobody behind the client answers a SYN-ACK; do not send it again.
	s.gw.Sysctl("net.ipv4.tcp_synack_retries", "0")
	s.cpu = cpus(t)[0]
	var err error
	if s.sender, err = s.outside.Sender(); err != nil {
		t.Fatal(err)
	}
	if s.wire, err = s.outside.Capture(nil); err != nil {
		t.Fatal(err)
	}
	if s.datagrams, err = s.gw.Admitted(packet.ProtocolUDP, nil); err != nil {
		t.Fatal(err)
	}
	return s
}

// behind adds the inner host, to which the gateway forwards. It knows the way to
// the client, and not to the strangers.
func (s *scene) behind() {
	s.inner = s.Host("inner")
	s.inside, s.home = s.Connect(s.gw, s.inner, "10.0.0.0/24", "2001:db8:1::/64")
	s.inner.Route("192.0.2.0/24", s.inside.Addr4())
	s.inner.Route("2001:db8::/64", s.inside.Addr6())
	s.gw.Sysctl("net.ipv4.ip_forward", "1")
	s.gw.Sysctl("net.ipv6.conf.all.forwarding", "1")
}

// cpus lists those that this process may use.
func cpus(t *testing.T) []int {
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

// up applies a policy to the gateway.
func (s *scene) up(text string) *automaton.Machine {
	s.t.Helper()
	m := compileText(s.t, text)
	s.apply(m)
	return m
}

func (s *scene) apply(m *automaton.Machine) {
	s.t.Helper()
	if err := s.gw.Do(func() error { return Backend{}.Apply(m) }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) inspect() *firewall.Status {
	s.t.Helper()
	s.settle()
	var status *firewall.Status
	if err := s.gw.Do(func() (err error) { status, err = Backend{}.Inspect(); return err }); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// each runs a test for both families.
func each(t *testing.T, test func(t *testing.T, f family)) {
	for _, f := range families {
		t.Run("ipv"+f.suffix(), func(t *testing.T) { test(t, f) })
	}
}

func on(k *lab.Link, f family) netip.Addr {
	if f == ipv4 {
		return k.Addr4()
	}
	return k.Addr6()
}

// stranger returns an address that has not been used, so that what others did
// (their budget of first knocks, too) is nothing to it.
func (s *scene) stranger(f family) netip.Addr {
	s.strangers++
	hi, lo := byte(s.strangers>>8), byte(s.strangers)
	if f == ipv4 {
		return netip.AddrFrom4([4]byte{198, 51, hi, lo})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 14: hi, 15: lo})
}

func tcp(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
func udp(n uint16) policy.Port { return policy.Port{Protocol: policy.UDP, Number: n} }

var echo = policy.Port{Protocol: policy.ICMP}

// opening is a packet that would open a connection from a port of its own.
func (s *scene) opening(src, dst netip.Addr, to policy.Port) *packet.Packet {
	s.port++
	p := &packet.Packet{Src: src, Dst: dst}
	switch to.Protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: s.port, DstPort: to.Number, Seq: 1000 * uint32(s.port), Flags: packet.SYN, Window: 64240}
	case policy.UDP:
		p.UDP = &packet.UDP{SrcPort: s.port, DstPort: to.Number}
		p.Payload = []byte("hello")
	default:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: s.port}
		if src.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	}
	return p
}

// settle waits until all that comes of what has been sent has happened.
func (s *scene) settle() {
	s.t.Helper()
	if err := s.Settle(); err != nil {
		s.t.Fatal(err)
	}
}

// send puts packets on the wire, where they stay in order.
func (s *scene) send(packets ...*packet.Packet) {
	s.t.Helper()
	raw := make([][]byte, len(packets))
	for i, p := range packets {
		var err error
		if raw[i], err = p.Append(nil); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := lab.OnCPU(s.cpu, func() error { _, err := s.sender.Send(raw...); return err }); err != nil {
		s.t.Fatal(err)
	}
}

// knock sends one opening packet to each port of the gateway, in order.
func (s *scene) knock(src netip.Addr, ports ...policy.Port) {
	s.t.Helper()
	var packets []*packet.Packet
	for _, port := range ports {
		packets = append(packets, s.opening(src, on(s.gate, of(src)), port))
	}
	s.send(packets...)
}

// An answer is what a sender sees of what became of its packet.
type answer string

const (
	silence  answer = "silence"
	welcomed answer = "a SYN-ACK"
	refused  answer = "a RST"
	closed   answer = "port unreachable"
	admitted answer = "in" // a datagram; whether it is answered is up to the program
	replied  answer = "an echo reply"
)

// ask sends one packet and tells what comes back.
func (s *scene) ask(p *packet.Packet) answer {
	s.t.Helper()
	return s.askAll(p)[0]
}

// askAll sends packets in order and tells what comes back for each.
func (s *scene) askAll(packets ...*packet.Packet) []answer {
	s.t.Helper()
	drain := func(c *lab.Capture) []lab.Captured {
		s.t.Helper()
		got, err := c.Drain()
		if err != nil {
			s.t.Fatal(err)
		}
		return got
	}
	drain(s.wire)
	drain(s.datagrams)
	s.send(packets...)
	s.settle()
	wire, datagrams := drain(s.wire), drain(s.datagrams)
	answers := make([]answer, len(packets))
	for i, p := range packets {
		answers[i] = silence
		for _, c := range datagrams {
			if p.UDP != nil && c.Src == p.Src && c.UDP.SrcPort == p.UDP.SrcPort {
				answers[i] = admitted
			}
		}
		for _, c := range wire {
			if c.Out || c.Dst != p.Src {
				continue
			}
			if a := answerTo(p, c.Packet); a != silence {
				answers[i] = a
			}
		}
	}
	return answers
}

func answerTo(p, c *packet.Packet) answer {
	switch {
	case c.TCP != nil && p.TCP != nil && c.TCP.DstPort == p.TCP.SrcPort && c.TCP.SrcPort == p.TCP.DstPort:
		if c.TCP.Flags&packet.RST != 0 {
			return refused
		}
		if c.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK {
			return welcomed
		}
		return answer("a TCP packet " + c.TCP.Flags.String())
	case c.ICMP != nil && (c.ICMP.Type == packet.EchoReply && c.Src.Is4() || c.ICMP.Type == packet.EchoReplyV6 && c.Src.Is6()):
		if p.ICMP != nil && p.ICMP.ID == c.ICMP.ID {
			return replied
		}
	case c.ICMP != nil && (c.ICMP.Type == packet.Unreachable && c.Src.Is4() && c.ICMP.Code == 3 ||
		c.ICMP.Type == packet.UnreachableV6 && c.Src.Is6() && c.ICMP.Code == 4):
		return closed
	case c.ICMP != nil && (c.ICMP.Type == packet.Unreachable && c.Src.Is4() || c.ICMP.Type == packet.UnreachableV6 && c.Src.Is6()):
		return answer(fmt.Sprintf("unreachable with code %d", c.ICMP.Code))
	}
	return silence
}

// try asks for a port of the gateway.
func (s *scene) try(src netip.Addr, to policy.Port) answer {
	s.t.Helper()
	return s.ask(s.opening(src, on(s.gate, of(src)), to))
}

// expect tries a port and says what a wrong answer means.
func (s *scene) expect(t *testing.T, src netip.Addr, to policy.Port, want answer, why string) {
	t.Helper()
	if got := s.try(src, to); got != want {
		t.Errorf("%s: %s from %s got %s, want %s", why, to, src, got, want)
	}
}

// serve greets whoever connects, and gives back every line, on a port of both
// families.
func serve(t *testing.T, h *lab.Host, port uint16, greeting string) *atomic.Int64 {
	t.Helper()
	ln, err := h.Listen(t.Context(), "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var accepted atomic.Int64
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			go func() {
				defer conn.Close()
				fmt.Fprintln(conn, greeting)
				io.Copy(conn, conn)
			}()
		}
	}()
	return &accepted
}

// serveUDP returns back every datagram. It listens on a link's addresses, and so
// answers from the one that was asked.
func serveUDP(t *testing.T, k *lab.Link, port uint16) {
	t.Helper()
	for _, f := range families {
		conn, err := k.Host.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(on(k, f), port).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 1<<16)
			for {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				conn.WriteTo(b[:n], from)
			}
		}()
	}
}

// soon ends long after anything that a test waits for.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// A session is a real connection to what serve has made.
type session struct {
	net.Conn
	lines *bufio.Reader
}

// dial connects after what has been sent, and reads the greeting.
func (s *scene) dial(t *testing.T, from *lab.Host, to netip.AddrPort, greeting string) *session {
	t.Helper()
	s.settle()
	conn, err := from.Dial(soon(t), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := newSession(conn)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if got, err := c.lines.ReadString('\n'); err != nil || got != greeting+"\n" {
		t.Fatalf("%s greets with %q (%v), want %q", to, got, err, greeting)
	}
	return c
}

func newSession(conn net.Conn) *session { return &session{conn, bufio.NewReader(conn)} }

// talk sends a line and reads it back.
func (c *session) talk() error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(c, "still there?"); err != nil {
		return err
	}
	_, err := c.lines.ReadString('\n')
	return err
}

// within ends after a time: for what must not happen.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
