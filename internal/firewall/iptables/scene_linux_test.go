package iptables

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A scene is a client and the gateway that runs a policy. The client also sends in
// the name of others, the strangers, whose answers it gets.
type scene struct {
	*lab.Lab
	t             *testing.T
	b             Backend
	client, gw    *lab.Host
	outside, gate *lab.Link // the cable between them
	sender        *lab.Sender
	cpu           int          // that sends, so that packets arrive in order
	wire          *lab.Capture // on outside

	strangers, port uint16
}

// How most policies here begin. A lab's kernel log lines go nowhere.
const shutAll = "version: 1\nposture: closed\nlog: {target: none}\n"

func newScene(t *testing.T, b Backend) *scene {
	t.Helper()
	s := &scene{Lab: lab.NewT(t), t: t, b: b, port: 20000}
	s.client, s.gw = s.Host("client"), s.Host("gw")
	s.outside, s.gate = s.Connect(s.client, s.gw, "192.0.2.0/24", "2001:db8::/64")
	s.gw.Route("198.51.0.0/16", s.outside.Addr4())
	s.gw.Route("2001:db8:c::/64", s.outside.Addr6())
	// Nobody behind the client answers a SYN-ACK; do not send it again.
	s.gw.Sysctl("net.ipv4.tcp_synack_retries", "0")
	var set unix.CPUSet
	err := unix.SchedGetaffinity(0, &set)
	for !set.IsSet(s.cpu) {
		s.cpu++
	}
	if err == nil {
		s.sender, err = s.outside.Sender()
	}
	if err == nil {
		s.wire, err = s.outside.Capture(nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// up applies a policy to the gateway.
func (s *scene) up(text string) {
	s.t.Helper()
	m := machineOf(s.t, text)
	if err := s.gw.Do(func() error { return s.b.Apply(m) }); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) inspect() *firewall.Status {
	s.t.Helper()
	s.settle()
	return inspect(s.t, s.gw, s.b)
}

func on(k *lab.Link, f Family) netip.Addr {
	if f == IPv4 {
		return k.Addr4()
	}
	return k.Addr6()
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// stranger returns an address that has not been used.
func (s *scene) stranger(f Family) netip.Addr {
	s.strangers++
	hi, lo := byte(s.strangers>>8), byte(s.strangers)
	if f == IPv4 {
		return netip.AddrFrom4([4]byte{198, 51, hi, lo})
	}
	return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x0c, 14: hi, 15: lo})
}

func tcp(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }

// opening is a packet that would open a connection from a port of its own.
func (s *scene) opening(src netip.Addr, to policy.Port) *packet.Packet {
	s.port++
	return &packet.Packet{Src: src, Dst: on(s.gate, familyOf(src)), TCP: &packet.TCP{
		SrcPort: s.port, DstPort: to.Number, Seq: 1000 * uint32(s.port), Flags: packet.SYN, Window: 64240,
	}}
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
func (s *scene) knock(src netip.Addr, ports ...uint16) {
	s.t.Helper()
	var packets []*packet.Packet
	for _, port := range ports {
		packets = append(packets, s.opening(src, tcp(port)))
	}
	s.send(packets...)
}

// What a sender sees of what became of its packet.
const (
	silence  = "silence"
	welcomed = "a SYN-ACK"
	refused  = "a RST"
)

// ask sends one packet and tells what comes back.
func (s *scene) ask(p *packet.Packet) string {
	s.t.Helper()
	s.wire.Drain()
	s.send(p)
	s.settle()
	answer := silence
	for _, c := range s.caught() {
		if c.TCP == nil || c.Dst != p.Src || c.TCP.DstPort != p.TCP.SrcPort {
			continue
		}
		switch {
		case c.TCP.Flags&packet.RST != 0:
			answer = refused
		case c.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK:
			answer = welcomed
		default:
			answer = "a TCP packet " + c.TCP.Flags.String()
		}
	}
	return answer
}

// caught returns what has come back.
func (s *scene) caught() []lab.Captured {
	s.t.Helper()
	got, err := s.wire.Drain()
	if err != nil {
		s.t.Fatal(err)
	}
	return got
}

// expect tries a port and says what a wrong answer means.
func (s *scene) expect(src netip.Addr, port uint16, want, why string) {
	s.t.Helper()
	if got := s.ask(s.opening(src, tcp(port))); got != want {
		s.t.Errorf("%s: port %d from %s got %s, want %s", why, port, src, got, want)
	}
}

// serve returns back every line, to whoever connects.
func serve(t *testing.T, h *lab.Host, network string, port uint16) {
	t.Helper()
	ln, err := h.Listen(t.Context(), network, fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
}

// A session is a connection to what serve has made.
type session struct {
	net.Conn
	lines *bufio.Reader
}

// dial connects after what has been sent, and talks once.
func (s *scene) dial(from *lab.Host, to netip.AddrPort) *session {
	s.t.Helper()
	s.settle()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	c := &session{conn, bufio.NewReader(conn)}
	if err := c.talk(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// talk sends a line and reads it back.
func (c *session) talk() error {
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := fmt.Fprintln(c, "still there?"); err != nil {
		return err
	}
	_, err := c.lines.ReadString('\n')
	return err
}
