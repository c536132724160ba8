//go:build linux

package stealth

import (
	"fmt"
	"net/netip"

	"postern/internal/packet"
)

// A place is an address that a packet may be from, or to.
type place struct {
	name    string
	at      func(w way) netip.Addr
	several bool // of a host with several addresses only
}

func fixed(name, addr string) place {
	a := netip.MustParseAddr(addr)
	return place{name: name, at: func(way) netip.Addr { return a }}
}

// The sources and destinations of packets, by family, beside the usual ones. Nearly
// none of them is any use to an honest sender: the kernel drops such packets, each at
// a place of its own, or answers from another address. (Not among them are targets that a
// router has no route or no neighbour for: of such it complains as often as it likes.)
var (
	sourcesV4 = []place{
		fixed("no address", "0.0.0.0"), fixed("this network", "0.0.0.9"), fixed("loopback", "127.0.0.1"),
		fixed("everyone", "255.255.255.255"), fixed("a group", "224.0.0.1"), fixed("class E", "240.0.0.1"),
		fixed("everyone on the link", "192.0.2.255"), fixed("the network itself", "192.0.2.0"),
		{name: "the host itself", at: func(w way) netip.Addr { return w.dst }},
		fixed("another address of the host", "198.51.100.2"), fixed("behind another interface", "198.51.100.1"),
		fixed("far behind another interface", "198.18.2.7"), fixed("far away", "198.18.1.7"), fixed("nowhere", "100.64.0.1"),
	}
	sourcesV6 = []place{
		fixed("no address", "::"), fixed("loopback", "::1"), fixed("a group", "ff02::1"), fixed("IPv4", "::ffff:192.0.2.1"),
		{name: "the host itself", at: func(w way) netip.Addr { return w.dst }}, fixed("the link", "fe80::1"),
		fixed("any router of the link", "2001:db8:1::"),
		fixed("another address of the host", "2001:db8:2::2"), fixed("behind another interface", "2001:db8:2::1"),
		fixed("far behind another interface", "2001:db8:f2::7"), fixed("far away", "2001:db8:f1::7"), fixed("nowhere", "2001:db8:99::1"),
	}
	targetsV4 = []place{
		fixed("everyone", "255.255.255.255"), fixed("everyone on the link", "192.0.2.255"),
		fixed("all systems", "224.0.0.1"), fixed("a group", "239.1.2.3"), fixed("loopback", "127.0.0.1"),
		fixed("no address", "0.0.0.0"),
		fixed("the host's address on another interface", "198.51.100.2"), fixed("everyone behind another interface", "198.51.100.255"),
		fixed("a host behind it", "198.51.100.1"),
		severalOf(fixed("a second address", "192.0.2.77")), severalOf(fixed("an address of another network", "198.18.7.2")),
		severalOf(fixed("everyone on that network", "198.18.7.255")), severalOf(fixed("an address of no link", "198.18.8.8")),
	}
	targetsV6 = []place{
		fixed("any router of the link", "2001:db8:1::"), fixed("any router behind another interface", "2001:db8:2::"),
		fixed("all nodes", "ff02::1"), fixed("all nodes on this one", "ff01::1"), fixed("all routers", "ff02::2"), fixed("a group", "ff05::1234"),
		fixed("those who may have its address", "ff02::1:ff00:2"),
		fixed("loopback", "::1"), fixed("no address", "::"), fixed("IPv4", "::ffff:192.0.2.2"), fixed("the host on the link", "fe80::2"),
		fixed("the host's address on another interface", "2001:db8:2::2"), fixed("a host behind it", "2001:db8:2::1"),
		severalOf(fixed("a second address", "2001:db8:1::77")), severalOf(fixed("an address of another network", "2001:db8:7::2")),
		severalOf(fixed("any router of that network", "2001:db8:7::")), severalOf(fixed("an address of no link", "2001:db8:8::8")),
	}
)

func severalOf(p place) place {
	p.several = true
	return p
}

// fromTo returns a packet from each source, and to each destination; with both, from each
// to each, too.
func fromTo(what string, change func(*packet.Packet), both bool) []recipe {
	var all []recipe
	add := func(f family, from, to *place) {
		r := recipe{name: what, only: f}
		if from != nil {
			r.name += " from " + from.name
			r.several = from.several
		}
		if to != nil {
			r.name += " to " + to.name
			r.several = r.several || to.several
		}
		r.change = func(p *packet.Packet) {
			w := way{src: p.Src, dst: p.Dst}
			if from != nil {
				p.Src = from.at(w)
			}
			if to != nil {
				p.Dst = to.at(w)
			}
			change(p)
		}
		all = append(all, r)
	}
	for _, f := range []struct {
		family
		sources, targets []place
	}{{onlyV4, sourcesV4, targetsV4}, {onlyV6, sourcesV6, targetsV6}} {
		for i := range f.sources {
			add(f.family, &f.sources[i], nil)
		}
		for i := range f.targets {
			add(f.family, nil, &f.targets[i])
			for j := range f.sources {
				if both {
					add(f.family, &f.sources[j], &f.targets[i])
				}
			}
		}
	}
	return all
}

// routed returns a packet with routing headers (RFC 8200, 4.4), some of which lead from
// one of the host's addresses to another: rules see the first one.
func routed(what string) []recipe {
	const here, other = "2001:db8:1::2", "2001:db8:2::2"
	var all []recipe
	add := func(name, to string, extensions ...packet.Extension) {
		all = append(all, recipe{name: what + name, only: onlyV6, change: func(p *packet.Packet) {
			p.Dst = netip.MustParseAddr(to)
			p.V6.Extensions = extensions
		}})
	}
	segment := func(left byte, addrs ...string) packet.Extension { // RFC 8754, 2; the last comes first
		data := []byte{byte(len(addrs) - 1), 0, 0, 0}
		for _, a := range addrs {
			data = append(data, netip.MustParseAddr(a).AsSlice()...)
		}
		return packet.RoutingHeader(4, left, data...)
	}
	plain := func(kind, left byte, addr string) packet.Extension { // RFC 8200, 4.4 and RFC 6275, 6.4.1
		return packet.RoutingHeader(kind, left, append(make([]byte, 4), netip.MustParseAddr(addr).AsSlice()...)...)
	}
	add(" by segments, one left, to another address", here, segment(1, other, here))
	add(" by segments, one left, from another address", other, segment(1, here, other))
	add(" by segments, none left", here, segment(0, here, other))
	add(" by segments, more left than there are", here, segment(9, other, here))
	add(" by segments, one left, to the same address", here, segment(1, here, here))
	add(" by segments, one left, to a group", here, segment(1, "ff02::1", here))
	add(" by segments, one left, to another host", here, segment(1, "2001:db8:2::1", here))
	for _, kind := range []byte{0, 1, 2, 3, 5, 253} {
		for _, left := range []byte{0, 1, 2} {
			add(fmt.Sprintf(" behind a routing header of type %d, %d left, from another address", kind, left), other, plain(kind, left, here))
			add(fmt.Sprintf(" behind a routing header of type %d, %d left", kind, left), here, plain(kind, left, other))
		}
	}
	add(" behind two routing headers, the second by segments", other, plain(0, 0, here), segment(1, here, other))
	add(" behind destination options and one by segments", other, packet.DestinationOptions(), segment(1, here, other))
	add(" behind hop-by-hop options and one by segments", other, packet.HopByHop(), segment(1, here, other))
	add(" by segments, and destination options", other, segment(1, here, other), packet.DestinationOptions())
	add(" by segments, and a fragment header that cuts nothing", other, segment(1, here, other), packet.FragmentHeader(1, 0, 0))
	add(" behind a fragment header that cuts nothing, by segments", other, packet.FragmentHeader(1, 0, 0), segment(1, here, other))
	return all
}
