//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/packet"
)

// A workload is a kind of traffic to a stand.
type workload struct {
	name   string
	family family
	packet func(s *stand) packet.Packet // the next one
	beside int                          // forged first knocks a second on the other processor
	steady bool                         // sent without a break until the tables are full
	keys   bool                         // to the port of keys
}

type family int

const (
	ipv4 family = 4
	ipv6 family = 6
)

var (
	scan     = &workload{name: "scan", family: ipv4, packet: scanning(ipv4)}
	allKinds = []*workload{
		scan,
		{name: "spoil", family: ipv4, packet: spoiling},
		{name: "flood", family: ipv4, packet: spoiling, beside: 20000},
		{name: "udp", family: ipv4, packet: func(s *stand) packet.Packet {
			return packet.Packet{Src: source(ipv4), Dst: s.address(ipv4), UDP: &packet.UDP{SrcPort: anyPort(), DstPort: anyPort()}}
		}},
		{name: "ack", family: ipv4, packet: func(s *stand) packet.Packet {
			return tcp(source(ipv4), s.address(ipv4), anyPort(), packet.ACK)
		}},
		{name: "door", family: ipv4, packet: func(s *stand) packet.Packet {
			return tcp(source(ipv4), s.address(ipv4), 22, packet.ACK)
		}},
		{name: "s-ack", family: ipv4, packet: func(s *stand) packet.Packet {
			return tcp(source(ipv4), s.address(ipv4), anyPort(), packet.SYN|packet.ACK)
		}},
		{name: "knock", family: ipv4, packet: forging(ipv4, firstKnock), steady: true},
		{name: "fscan", family: ipv4, packet: forging(ipv4, anyPort), steady: true},
		{name: "scan6", family: ipv6, packet: scanning(ipv6)},
		{name: "knock6", family: ipv6, packet: forging(ipv6, firstKnock), steady: true},
		{name: "junk", family: ipv4, packet: junk, keys: true},
		{name: "replay", family: ipv4, packet: replayed, keys: true},
		{name: "forged", family: ipv4, packet: bound, keys: true},
		{name: "token", family: ipv4, packet: right, keys: true},
	}
)

// chooseTraffic returns the kinds of traffic whose names are listed, or all.
func chooseTraffic(list string) ([]*workload, error) {
	if list == "" {
		return allKinds, nil
	}
	var names []string
	for _, w := range allKinds {
		names = append(names, w.name)
	}
	var chosen []*workload
	for name := range strings.SplitSeq(list, ",") {
		i := slices.Index(names, name)
		if i < 0 {
			return nil, fmt.Errorf("unknown traffic %q: there is %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, allKinds[i])
	}
	return chosen, nil
}

// scanning returns SYNs of one source to random ports.
func scanning(f family) func(*stand) packet.Packet {
	return func(s *stand) packet.Packet { return tcp(source(f), s.address(f), anyPort(), packet.SYN) }
}

// spoiling returns a first knock and a wrong port by turns, of one source.
func spoiling(s *stand) packet.Packet {
	port := uint16(first)
	if s.sent++; s.sent%2 == 0 {
		port = wrong
	}
	return tcp(source(ipv4), s.address(ipv4), port, packet.SYN)
}

// forging returns SYNs to a port, each in the name of another source.
func forging(f family, port func() uint16) func(*stand) packet.Packet {
	return func(s *stand) packet.Packet {
		s.sent++
		return tcp(forged(f, s.sent), s.address(f), port(), packet.SYN)
	}
}

func firstKnock() uint16 { return first }

func tcp(from, to netip.Addr, port uint16, flags packet.TCPFlags) packet.Packet {
	return packet.Packet{Src: from, Dst: to, TCP: &packet.TCP{
		SrcPort: anyPort(), DstPort: port, Seq: rand.Uint32(), Ack: rand.Uint32(), Flags: flags, Window: 64240,
	}}
}

func anyPort() uint16 { return uint16(1 + rand.IntN(65535)) }

// source returns the address of traffic that has one source.
func source(f family) netip.Addr {
	if f == ipv6 {
		return netip.MustParseAddr("3fff:fff::7")
	}
	return netip.MustParseAddr("198.51.100.7")
}

// forgedSources is how many addresses forged returns: so many that none comes
// again while what is known of it is still kept.
const forgedSources = 1 << 22

// forged returns the i-th forged source. The order is shuffled, as tables that
// grow in order are not what floods make. Each IPv6 source has a /48 of its
// own.
func forged(f family, i uint32) netip.Addr {
	i = i * 2654435761 % forgedSources
	if f == ipv6 {
		a := [16]byte{0: 0x3f, 1: 0xff, 15: 1} // RFC 9637, for documentation
		binary.BigEndian.PutUint32(a[2:], i)
		return netip.AddrFrom16(a)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 32<<24|i)
	return netip.AddrFrom4(a)
}
