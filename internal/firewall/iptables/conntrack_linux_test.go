package iptables

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/host"
	"postern/internal/lab"
	"postern/internal/packet"
)

// TestOldSessions: on a host whose conntrack knows nothing, because no rule has
// asked for it so far, connections from before the first rules go on.
func TestOldSessions(t *testing.T) {
	t.Parallel()
	const policy = shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"
	eachVariant(t, func(t *testing.T, b Backend) {
		for _, loose := range []string{"1", "0"} { // whether conntrack takes up connections that it has not seen begin
			t.Run("tcp_loose="+loose, func(t *testing.T) {
				t.Parallel()
				s := newScene(t, b)
				s.gw.Sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
				serve(t, s.gw, "tcp", 22) // so that IPv4 comes mapped into IPv6
				serve(t, s.gw, "tcp4", 23)
				serve(t, s.gw, "tcp6", 24)
				serve(t, s.client, "tcp", 80)
				sessions := map[string]*session{
					"IPv4 mapped into IPv6": s.dial(s.client, netip.AddrPortFrom(s.gate.Addr4(), 22)),
					"IPv4":                  s.dial(s.client, netip.AddrPortFrom(s.gate.Addr4(), 23)),
					"IPv6":                  s.dial(s.client, netip.AddrPortFrom(s.gate.Addr6(), 22)),
					"IPv6 only":             s.dial(s.client, netip.AddrPortFrom(s.gate.Addr6(), 24)),
					"out over IPv4":         s.dial(s.gw, netip.AddrPortFrom(s.outside.Addr4(), 80)),
					"out over IPv6":         s.dial(s.gw, netip.AddrPortFrom(s.outside.Addr6(), 80)),
					// Of these the client speaks first afterwards.
					"called over IPv4": s.called(IPv4),
					"called over IPv6": s.called(IPv6),
				}
				s.up(policy)
				for range 3 {
					for name, c := range sessions {
						if err := c.talk(); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
					s.up(policy + "allow: [{service: tcp/443}]\n") // and after another change
				}
				for _, f := range families {
					s.expect(s.stranger(f), 22, silence, "a new connection")
					p := s.opening(s.stranger(f), tcp(22))
					p.TCP.Flags = packet.ACK
					if got := s.ask(p); got != silence {
						t.Errorf("an ACK of no connection got %s", got)
					}
					// The addresses of a session open nothing new.
					local := netip.MustParseAddrPort(sessions[fmt.Sprint("IPv", int(f))].LocalAddr().String())
					p = s.opening(local.Addr(), tcp(25))
					p.TCP.SrcPort = local.Port()
					if got := s.ask(p); got != silence {
						t.Errorf("another port, from a session's own, got %s", got)
					}
				}
			})
		}
	})
}

// TestUntold: a connection that conntrack does not take keeps no other from it.
func TestUntold(t *testing.T) {
	t.Parallel()
	h := lab.NewT(t).Host("host")
	flows := host.Flows{}
	good := func(n byte) host.Flow {
		return host.Flow{
			Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 22),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, n}), 50000),
		}
	}
	const n = 20
	for i := range byte(n) {
		flows[good(i)] = host.Open
		bad := good(100 + i)
		bad.Local = netip.MustParseAddrPort("[2001:db8::1]:22") // of the other family
		flows[bad] = host.Open
	}
	err := h.Do(func() error { return track(flows) })
	if err == nil || !strings.Contains(err.Error(), "20 of 40") || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
	err = h.Do(func() error {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		for i := range byte(n) {
			message, err := trackMessage(good(i), host.Open)
			if err != nil {
				return err
			}
			if _, err := conn.Execute(message); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%v was not told: %v", good(i), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// called makes a connection from the gateway to the client, and gives the client's
// end.
func (s *scene) called(f Family) *session {
	s.t.Helper()
	// Any port: one that was just closed stays in use while a child of this process, between
	// fork and exec, still has it.
	ln, err := s.client.Listen(s.t.Context(), "tcp", ":0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ln.Close()
	near, err := s.gw.Dial(s.t.Context(), "tcp", netip.AddrPortFrom(on(s.outside, f), uint16(ln.Addr().(*net.TCPAddr).Port)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { near.Close() })
	go io.Copy(near, near)
	far, err := ln.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { far.Close() })
	return &session{far, bufio.NewReader(far)}
}

// TestHalfOpenSession: the first rules come between a SYN-ACK and the ACK.
func TestHalfOpenSession(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		s := newScene(t, b)
		s.gw.Sysctl("net.ipv4.tcp_synack_retries", "5")
		s.gw.Sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")
		ln, err := s.gw.Listen(t.Context(), "tcp", ":22")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ln.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
		var acks []*packet.Packet
		for _, f := range families {
			p := s.opening(s.stranger(f), tcp(22))
			s.wire.Drain()
			s.send(p)
			s.settle()
			for _, c := range s.caught() {
				if c.TCP != nil && c.TCP.DstPort == p.TCP.SrcPort && c.TCP.Flags == packet.SYN|packet.ACK {
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
		s.up(shutAll + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n")
		s.send(acks...)
		for range acks {
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	})
}
