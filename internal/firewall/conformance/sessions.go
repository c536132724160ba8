//go:build linux

package conformance

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/internal/firewall"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// hideSSH hides a port of the gateway from everybody who has not knocked.
const hideSSH = labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"

// OldSessions: on a host whose connection tracking knows nothing, because no rule
// has asked for it so far, connections from before the first rules go on, and
// their addresses open nothing else.
func OldSessions(t *testing.T, b firewall.Backend) {
	for _, loose := range []string{"1", "0"} { // whether conntrack takes up connections that it has not seen begin
		t.Run("tcp_loose="+loose, func(t *testing.T) {
			t.Parallel()
			s := labtest.NewScene(t, b)
			s.Gateway.Sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
			labtest.Greet(t, s.Gateway, 22, "for both families") // so that IPv4 comes mapped into IPv6
			labtest.Serve(t, s.Gateway, "tcp4", ":23", labtest.Greeting("for one family"))
			labtest.Serve(t, s.Gateway, "tcp6", ":24", labtest.Greeting("for one family"))
			labtest.Greet(t, s.Client, 80, "elsewhere")
			sessions := map[string]*labtest.Session{
				"IPv4 mapped into IPv6": s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr4(), 22), "for both families"),
				"IPv4":                  s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr4(), 23), "for one family"),
				"IPv6":                  s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr6(), 22), "for both families"),
				"IPv6 only":             s.Dial(t, s.Client, netip.AddrPortFrom(s.Gate.Addr6(), 24), "for one family"),
				"out over IPv4":         s.Dial(t, s.Gateway, netip.AddrPortFrom(s.Outside.Addr4(), 80), "elsewhere"),
				"out over IPv6":         s.Dial(t, s.Gateway, netip.AddrPortFrom(s.Outside.Addr6(), 80), "elsewhere"),
				// Of these the client speaks first afterwards.
				"from the gateway over IPv4": fromGateway(s, labtest.IPv4),
				"from the gateway over IPv6": fromGateway(s, labtest.IPv6),
			}
			talk := func(when string) {
				for name, c := range sessions {
					if err := c.Talk(); err != nil {
						t.Errorf("%s, %s: %v", name, when, err)
					}
				}
			}
			talk("before the first rules")
			s.Up(hideSSH)
			for range 3 {
				talk("after rules")
				s.Up(hideSSH + "allow: [{service: tcp/443}]\n") // and after another change
			}
			for f, name := range map[labtest.Family]string{labtest.IPv4: "IPv4", labtest.IPv6: "IPv6"} {
				src := s.NewAddress(f)
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a new connection")
				p := s.ToGateway(src, labtest.TCP(22))
				p.TCP.Flags = packet.ACK
				if got := s.Ask(p); got != labtest.Silence {
					t.Errorf("an ACK of no connection got %s", got)
				}
				// The addresses of a session open nothing new.
				local := netip.MustParseAddrPort(sessions[name].LocalAddr().String())
				p = s.ToGateway(local.Addr(), labtest.TCP(25))
				p.TCP.SrcPort = local.Port()
				if got := s.Ask(p); got != labtest.Silence {
					t.Errorf("another port, from a session's own, got %s", got)
				}
			}
		})
	}
}

// fromGateway makes a connection from the gateway to the client, and returns the
// client's end.
func fromGateway(s *labtest.Scene, f labtest.Family) *labtest.Session {
	s.T.Helper()
	// Any port: one that was just closed stays in use while a child of this process,
	// between fork and exec, still has it.
	ln, err := s.Client.Listen(s.T.Context(), "tcp", ":0")
	if err != nil {
		s.T.Fatal(err)
	}
	defer ln.Close()
	to := netip.AddrPortFrom(labtest.On(s.Outside, f), uint16(ln.Addr().(*net.TCPAddr).Port))
	near, err := s.Gateway.Dial(labtest.Soon(s.T), "tcp", to)
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { near.Close() })
	go io.Copy(near, near)
	far, err := ln.Accept()
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Cleanup(func() { far.Close() })
	return labtest.NewSession(far)
}

// HalfOpenSession: the first rules come between a SYN-ACK and the ACK, and the
// connection comes about.
func HalfOpenSession(t *testing.T, b firewall.Backend) {
	for _, loose := range []string{"1", "0"} {
		t.Run("tcp_loose="+loose, func(t *testing.T) {
			t.Parallel()
			s := labtest.NewScene(t, b)
			s.Gateway.Sysctl("net.ipv4.tcp_synack_retries", "5")
			s.Gateway.Sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
			accepted := labtest.Greet(t, s.Gateway, 22, "ssh")
			var acks []*packet.Packet
			for _, f := range labtest.Families {
				p := s.ToGateway(s.NewAddress(f), labtest.TCP(22))
				s.Wire.Drain()
				s.Send(p)
				s.Settled()
				got, err := s.Wire.Drain()
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range got {
					if labtest.AnswerTo(p, c.Packet) == labtest.SYNACK {
						ack := *p.TCP
						ack.Flags, ack.Seq, ack.Ack = packet.ACK, p.TCP.Seq+1, c.TCP.Seq+1
						acks = append(acks, &packet.Packet{Src: p.Src, Dst: p.Dst, TCP: &ack})
						break
					}
				}
			}
			if len(acks) != 2 {
				t.Fatalf("%d of 2 SYNs were answered", len(acks))
			}
			s.Up(hideSSH)
			s.Send(acks...)
			for deadline := time.Now().Add(20 * time.Second); accepted.Accepted.Load() < 2; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("%d of 2 connections came about", accepted.Accepted.Load())
				}
			}
		})
	}
}
