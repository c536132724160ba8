package bpf

import (
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/key"
	"postern/internal/packet"
)

func init() { maps.Copy(earlyCases, udpCases) }

// udp returns a datagram to a port of the server.
func udp(from netip.Addr, port uint16) packet.Packet {
	p := datagram.packet(from, []byte("x"))
	p.UDP.DstPort = port
	return p
}

func countUDP(e *Early) {
	e.UDP = true
	e.NamedUDP.add(namedPort)
}

const namedPort = 5353 // of UDP

// wantsAll sends the same packet again and again.
func (s *earlyScene) wantsAll(what string, p packet.Packet, all ...fate) {
	s.t.Helper()
	for i, want := range all {
		if got := s.fate(p, nil); got != want {
			s.t.Errorf("%s: packet %d from %v is %s, want %s", what, i+1, p.Src, got, want)
		}
	}
}

// track has connection tracking know a flow that began with a datagram, and to where that was
// sent on, if it was. replies are what comes back.
func (s *earlyScene) track(from, to, replies netip.AddrPort) {
	s.t.Helper()
	tuple := func(from, to netip.AddrPort) netlink.IPTuple {
		return netlink.IPTuple{SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice(), SrcPort: from.Port(), DstPort: to.Port(), Protocol: unix.IPPROTO_UDP}
	}
	family := netlink.InetFamily(unix.AF_INET)
	if from.Addr().Is6() {
		family = unix.AF_INET6
	}
	s.do(s.t, func() error {
		return netlink.ConntrackCreate(netlink.ConntrackTable, family, &netlink.ConntrackFlow{
			FamilyType: uint8(family), Forward: tuple(from, to), Reverse: tuple(to, replies), TimeOut: 600,
		})
	})
}

func portOf(a netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a, port) }

// servers are the addresses that senders send to.
var servers = map[netip.Addr]netip.Addr{sender4: server4, sender6: server6}

// udpCases are what is expected of the program where it counts datagrams.
var udpCases = map[string]earlyCase{
	"datagrams": {countUDP, func(s *earlyScene) {
		s.pass(60 * second)
		for from := range servers {
			s.wantsAll("begin", udp(from, idlePort), counted, counted, counted, overBudget)
			s.pass(5 * time.Millisecond)
			s.wantsAll("over", udp(from, idlePort), dropped, dropped)
			s.wants("the same budget", from, dropped)
			s.wantsAll("another port", udp(from, 9), dropped)
		}
		s.pass(second + second/100)
		for from := range servers {
			s.wants("one left", from, counted)
			s.wantsAll("none left, and remembered", udp(from, idlePort), overBudget)
			s.pass(5 * time.Millisecond)
			s.wantsAll("forgotten", udp(from, idlePort), dropped)
		}
	}},
	"datagrams that are remembered": {countUDP, func(s *earlyScene) {
		settled(s)
		s.pass(second + second/100)
		for from := range servers {
			s.wantsAll("one left", udp(from, idlePort), counted)
			s.wants("remembered", from, overBudget)
		}
	}},
	"datagrams to ports that are not counted": {countUDP, func(s *earlyScene) {
		settled(s)
		for from := range servers {
			s.wantsAll("named", udp(from, namedPort), left, left, left, left, left)
			s.wants("nothing of it was a knock", from, dropped)
			s.wantsAll("named for TCP", udp(from, servicePort), dropped)
			s.wantsAll("named for UDP", syn(from, namedPort), dropped)
		}
	}},
	"datagrams that may be knocks": {func(e *Early) { countUDP(e); e.UDPKnocks = true }, func(s *earlyScene) {
		settled(s)
		for from := range servers {
			s.wantsAll("named", udp(from, namedPort), left)
			s.wants("it may have been a knock", from, overBudget)
		}
	}},
	"datagrams of known flows": {countUDP, func(s *earlyScene) {
		settled(s)
		for from, server := range servers {
			peer, other := portOf(from, 50000), portOf(neighbour(from), 53)
			s.track(peer, portOf(server, 4500), peer)
			s.wantsAll("the flow", udp(from, 4500), left, left, left, left, left)
			s.wantsAll("another flow", udp(from, 4501), dropped)
			s.wants("nothing of it was remembered", from, dropped)

			// A question of this host's, and one from behind it that is masqueraded.
			s.track(portOf(server, 33000), other, portOf(server, 33000))
			inner := netip.MustParseAddr("10.1.2.3")
			if from.Is6() {
				inner = netip.MustParseAddr("fd00::3")
			}
			s.track(portOf(inner, 1000), other, portOf(server, 33001))
			s.wantsAll("budget", udp(neighbour(from), idlePort), dropped)
			for _, port := range []uint16{33000, 33001} {
				answer := udp(neighbour(from), port)
				answer.UDP.SrcPort = 53
				s.wantsAll("an answer", answer, left, left, left, left, left)
				answer.UDP.SrcPort = 54
				s.wantsAll("no answer", answer, dropped)
			}
		}
	}},
	"datagrams of known flows, and knocks": {func(e *Early) { countUDP(e); e.UDPKnocks = true }, func(s *earlyScene) {
		settled(s)
		for from, server := range servers {
			s.track(portOf(from, 50000), portOf(server, 4500), portOf(from, 50000))
			s.wantsAll("the flow", udp(from, 4500), left, left)
			s.wants("nothing of it was a knock", from, dropped)
		}
	}},
	"datagrams where nothing answers": {func(e *Early) { countUDP(e); silent(e) }, func(s *earlyScene) {
		s.pass(60 * second)
		for from := range servers {
			s.wantsAll("as where something does", udp(from, idlePort), counted, counted)
			s.wants("it may have made progress", from, counted, overBudget)
			s.pass(5 * time.Millisecond)
			s.wantsAll("forgotten", udp(from, idlePort), dropped)
			s.wants("forgotten", from, dropped)
		}
	}},
	"datagrams that are awaited": {countUDP, func(s *earlyScene) {
		settled(s)
		conn, err := s.host.ListenPacket(s.t.Context(), "udp", ":4500")
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close()
		for from := range servers {
			s.wantsAll("a socket", udp(from, 4500), overBudget, overBudget)
			s.wantsAll("no socket", udp(from, 4501), dropped)
			s.wantsAll("nor is TCP", syn(from, 4500), dropped)
		}
	}},
	"datagrams that are no plain ones": {func(e *Early) { countUDP(e); e.UDPKnocks = true }, func(s *earlyScene) {
		settled(s)
		options, fragment, extended := udp(sender4, idlePort), udp(sender4, idlePort), udp(sender6, idlePort)
		options.V4.Options = []byte{1, 1, 1, 0}
		fragment.V4.Flags = packet.MoreFragments
		extended.V6.Extensions = []packet.Extension{packet.HopByHop()}
		elsewhere := udp(sender4, idlePort)
		elsewhere.Dst = server4.Next()
		for _, p := range []packet.Packet{options, fragment, extended, elsewhere} {
			s.wantsAll("not plain, or not for this host", p, left, left, left, left)
			s.wants("it may have been a knock", p.Src, overBudget)
			s.pass(5 * time.Millisecond)
			s.wants("settled", p.Src, dropped)
		}
		if got := s.fate(udp(sender4, idlePort), func(b []byte) { b[0] = 2 }); got != left {
			s.t.Errorf("what is in a frame for others is %s", got)
		}
	}},
	// The port of keys is also that of a flow, whose datagrams are as long as tokens.
	"junk, and a flow with its port": {countUDP, func(s *earlyScene) {
		settled(s)
		for from, server := range servers {
			data := randomToken()
			flow := datagram.packet(from, data[:])
			junk, others := flow, datagram.packet(neighbour(from), data[:])
			ports := *flow.UDP
			ports.SrcPort++
			junk.UDP = &ports
			s.track(portOf(from, flow.UDP.SrcPort), portOf(server, flow.UDP.DstPort), portOf(from, flow.UDP.SrcPort))
			s.wantsAll("the flow", flow, left, left)
			for range 20 { // until both came in the same moment
				s.wantsAll("others' junk", others, dropped)
				s.wantsAll("the flow, beside others' junk", flow, left)
			}
			found := 0
			for range 20 {
				s.wantsAll("junk", junk, dropped)
				if s.fate(flow, nil) == dropped {
					found++
				}
			}
			if found < 10 {
				s.t.Errorf("right behind junk connection tracking was asked %d times of 20", 20-found)
			}
			time.Sleep(2 * 67 * time.Millisecond)
			s.wantsAll("the flow, later", flow, left, left)
		}
	}},
	"junk": {countUDP, func(s *earlyScene) {
		settled(s)
		for from := range servers {
			junk, forged := randomToken(), s.credential(0, 0).Token(s.fresh(), neighbour(from), key.Lane4)
			s.wantsAll("junk", datagram.packet(from, junk[:]), dropped, dropped)
			s.wantsAll("forged", datagram.packet(from, forged[:]), dropped, dropped)
			right := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			s.do(s.t, func() error {
				// The second is a replay, of a source that may have made progress by the first.
				for _, want := range []uint32{s.code(s.people[0].ID, doors[0]), s.codes.Over()} {
					v, err := s.program.run(frame(s.t, datagram.packet(from, right[:])), 0)
					if err != nil {
						return err
					}
					if v.priority != want {
						s.t.Errorf("the token has the priority %d, want %d", v.priority, want)
					}
				}
				return nil
			})
		}
		got, err := (&Running{instances: []*instance{&s.program.instance}}).Counts()
		want := Counts{0: 2, key.UnknownDevice: 4, key.Forged: 4, key.Replayed: 2}
		if got != want || err != nil {
			s.t.Errorf("the program counts tokens as %v, want %v: %v", got, want, err)
		}
	}},
}

// TestEarlyWithoutConntrack: where the kernel lets no program ask connection tracking, the
// program counts SYNs, and no datagram.
func TestEarlyWithoutConntrack(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"token.c", "early.h", "hash.h", "kernel.h"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		absent := strings.ReplaceAll(string(text), "bpf_skb_ct_lookup", "bpf_skb_ct_absent")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(absent), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	spec, err := readSpec(compile(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	s := newEarlyScene(t, spec, countUDP)
	if udp, err := (&Running{instances: []*instance{&s.program.instance}}).CountsUDP(); udp || err != nil {
		t.Errorf("datagrams are counted: %v, %v", udp, err)
	}
	settled(s)
	s.wantsAll("datagrams", udp(sender4, idlePort), left, left, left, left, left)
}
