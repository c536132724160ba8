package nftables

import (
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
)

// TestOldSessions: on a host whose conntrack knows nothing, because no rule has
// asked for it so far, connections from before the first rules go on.
func TestOldSessions(t *testing.T) {
	t.Parallel()
	const policy = shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"
	for _, loose := range []string{"1", "0"} { // whether conntrack takes up connections that it has not seen begin
		t.Run("tcp_loose="+loose, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.gw.Sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
			serve(t, s.gw, 22, "for both families") // so that IPv4 comes mapped into IPv6
			only4 := listenOnly(t, s.gw, "tcp4", 23)
			only6 := listenOnly(t, s.gw, "tcp6", 24)
			serve(t, s.client, 80, "elsewhere")
			sessions := map[string]*session{
				"IPv4 mapped into IPv6": s.dial(t, s.client, netip.AddrPortFrom(s.gate.Addr4(), 22), "for both families"),
				"IPv4":                  s.dial(t, s.client, netip.AddrPortFrom(s.gate.Addr4(), only4), "for one family"),
				"IPv6":                  s.dial(t, s.client, netip.AddrPortFrom(s.gate.Addr6(), 22), "for both families"),
				"IPv6 only":             s.dial(t, s.client, netip.AddrPortFrom(s.gate.Addr6(), only6), "for one family"),
				"out over IPv4":         s.dial(t, s.gw, netip.AddrPortFrom(s.outside.Addr4(), 80), "elsewhere"),
				"out over IPv6":         s.dial(t, s.gw, netip.AddrPortFrom(s.outside.Addr6(), 80), "elsewhere"),
			}
			// Of these the other side speaks first afterwards.
			called := s.called(t)
			s.up(policy)
			for range 3 {
				for name, c := range sessions {
					if err := c.talk(); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
				for name, c := range called {
					if err := c.talk(); err != nil {
						t.Errorf("called %s: %v", name, err)
					}
				}
				s.up(policy + "allow: [{service: tcp/443}]\n") // and after another change
			}
			for _, f := range families {
				src := s.stranger(f)
				s.expect(t, src, tcp(22), silence, "a new connection")
				p := s.opening(src, on(s.gate, f), tcp(22))
				p.TCP.Flags = packet.ACK
				if got := s.ask(p); got != silence {
					t.Errorf("an ACK of no connection got %s", got)
				}
				// The addresses of a session open nothing new.
				local := netip.MustParseAddrPort(sessions["IPv6"].LocalAddr().String())
				if f == ipv4 {
					local = netip.MustParseAddrPort(sessions["IPv4"].LocalAddr().String())
				}
				p = s.opening(local.Addr(), on(s.gate, f), tcp(25))
				p.TCP.SrcPort = local.Port()
				if got := s.ask(p); got != silence {
					t.Errorf("another port, from a session's own, got %s", got)
				}
			}
		})
	}
}

// listenOnly is serve on a port for one family.
func listenOnly(t *testing.T, h *lab.Host, network string, port uint16) uint16 {
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
				fmt.Fprintln(conn, "for one family")
				io.Copy(conn, conn)
			}()
		}
	}()
	return port
}

// called makes connections from the gateway to the client, and gives the
// client's ends.
func (s *scene) called(t *testing.T) map[string]*session {
	t.Helper()
	ends := map[string]*session{}
	ln, err := s.client.Listen(t.Context(), "tcp", ":81")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, f := range families {
		near, err := s.gw.Dial(soon(t), "tcp", netip.AddrPortFrom(on(s.outside, f), 81))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { near.Close() })
		go io.Copy(near, near)
		far, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { far.Close() })
		ends["ipv"+f.suffix()] = newSession(far)
	}
	return ends
}

// TestHalfOpenSession: the first rules come between a SYN-ACK and the ACK.
func TestHalfOpenSession(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.gw.Sysctl("net.ipv4.tcp_synack_retries", "5")
	accepted := serve(t, s.gw, 22, "ssh")
	var acks []*packet.Packet
	for _, f := range families {
		p := s.opening(s.stranger(f), on(s.gate, f), tcp(22))
		s.wire.Drain()
		s.send(p)
		s.settle()
		got, err := s.wire.Drain()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got {
			if answerTo(p, c.Packet) == welcomed {
				ack := *p.TCP
				ack.Flags, ack.Seq, ack.Ack = packet.ACK, p.TCP.Seq+1, c.TCP.Seq+1
				acks = append(acks, &packet.Packet{Src: p.Src, Dst: p.Dst, TCP: &ack})
			}
		}
	}
	if len(acks) != 2 {
		t.Fatalf("%d of 2 SYNs were answered", len(acks))
	}
	s.up(shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
	s.send(acks...)
	for deadline := time.Now().Add(20 * time.Second); accepted.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 2 connections came about", accepted.Load())
		}
	}
}
