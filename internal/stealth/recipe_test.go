//go:build linux

package stealth

import (
	"encoding/binary"
	"slices"

	"postern/internal/key"
	"postern/internal/packet"
)

// A probe is a packet that an attacker may send, whole or in parts.
type probe struct {
	name  string
	whole *packet.Packet
	parts []*packet.Packet // in the order of sending
	from  uint16           // its source port, identifier and flow label: no other probe has it
}

// A recipe makes a plain packet into a probe.
type recipe struct {
	name   string
	only   family
	change func(*packet.Packet)
	cut    []int // where it is cut into parts
	order  []int // in which order they are sent; nil as they come

	several   bool // only to a host with several addresses on the link
	broadcast bool // in frames to everyone on the link
}

// family says in which IP version a recipe can be made.
type family int

const (
	anyFamily family = iota
	onlyV4
	onlyV6
)

func (r recipe) fits(w way, at site) bool {
	return (r.only == anyFamily || (r.only == onlyV4) == w.src.Is4()) && (at.several || !r.several)
}

const sumOfZeroName = "SYN whose answer has a checksum of 0"

// tcpRecipes begin with a SYN.
var tcpRecipes = slices.Concat(
	[]recipe{
		{name: "SYN", change: func(p *packet.Packet) {}},
		{name: "SYN as a client's", change: options(2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7)},
		{name: "SYN with data", change: func(p *packet.Packet) { p.Payload = []byte("anybody?") }},
		{name: "SYN with a token", change: func(p *packet.Packet) { p.Payload = rightToken() }},
		{name: "SYN with as much data as a token", change: func(p *packet.Packet) { p.Payload = make([]byte, key.TokenSize) }},
		{name: "SYN with window 0", change: func(p *packet.Packet) { p.TCP.Window = 0 }},
		{name: "SYN with an urgent pointer", change: func(p *packet.Packet) { p.TCP.Urgent = 1 }},
		{name: "SYN with an acknowledgement number", change: func(p *packet.Packet) { p.TCP.Ack = 77777 }},
		{name: "SYN with sequence number 0", change: func(p *packet.Packet) { p.TCP.Seq = 0 }},
		{name: "SYN with the last sequence number", change: func(p *packet.Packet) { p.TCP.Seq = 1<<32 - 1 }},
		{name: sumOfZeroName, change: sumOfZero},
		{name: "SYN with fast open", change: options(34, 2)},
		{name: "SYN with multipath TCP", change: options(30, 4, 0, 1)},
		{name: "SYN with an MD5 signature", change: options(19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)},
		{name: "SYN with TCP-AO", change: options(29, 16, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)},
		{name: "SYN with MD5 and TCP-AO", change: options(19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
			29, 16, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)},
		{name: "SYN with a broken option", change: options(2, 0, 0, 0)},
		{name: "SYN with a cut option", change: options(1, 1, 2, 4)},
		{name: "SYN with an unknown option", change: options(253, 4, 1, 2)},
		{name: "SYN with a wrong checksum", change: func(p *packet.Packet) { p.TCP.ChecksumError = 1 }},
		{name: "ACK with a wrong checksum", change: func(p *packet.Packet) {
			p.TCP.Flags, p.TCP.ChecksumError = packet.ACK, 1
		}},
		{name: "SYN with traffic class 0xb8", change: func(p *packet.Packet) { p.TrafficClass = 0xb8 }},
		{name: "SYN with congestion marked", change: func(p *packet.Packet) { p.TrafficClass = 3 }},
		{name: "ACK with traffic class 0xb8", change: func(p *packet.Packet) {
			p.TCP.Flags, p.TCP.Ack, p.TrafficClass = packet.ACK, 5, 0xb8
		}},
		{name: "SYN with TTL 1", change: func(p *packet.Packet) { p.TTL = 1 }},
		{name: "SYN with TTL 255", change: func(p *packet.Packet) { p.TTL = 255 }},
		{name: "SYN in a frame to everyone", broadcast: true, change: func(*packet.Packet) {}},
		{name: "ACK in a frame to everyone", broadcast: true, change: func(p *packet.Packet) {
			p.TCP.Flags, p.TCP.Ack = packet.ACK, 5
		}},
		{name: "FIN in a frame to everyone", broadcast: true, change: func(p *packet.Packet) { p.TCP.Flags = packet.FIN }},
		{name: "SYN from port 0", change: func(p *packet.Packet) { p.TCP.SrcPort = 0 }},
		{name: "header cut short", change: raw(func(b []byte) []byte { return b[:12] })},
		{name: "header longer than the packet", change: raw(func(b []byte) []byte { b[12] = 0xf0; return b })},
		{name: "header shorter than a header", change: raw(func(b []byte) []byte { b[12] = 0x40; return b })},
	},
	flags("SYN", "SYN+ACK", "ACK", "FIN", "", "FIN+PSH+URG", "FIN+ACK", "RST", "RST+ACK", "SYN+FIN", "SYN+RST",
		"SYN+FIN+RST+PSH+ACK+URG", "SYN+PSH+URG", "SYN+URG", "PSH", "URG", "PSH+ACK", "FIN+RST", "SYN+FIN+ACK",
		"SYN+ECE+CWR", "SYN+ECE", "SYN+CWR", "SYN+ECE+CWR+AE", "ACK+ECE", "FIN+ECE+CWR", "ECE"),
	[]recipe{
		{name: "SYN with reserved bits", change: func(p *packet.Packet) { p.TCP.Flags |= 0xe00 }},
		{name: "ACK with data", change: func(p *packet.Packet) {
			p.TCP.Flags, p.TCP.Ack, p.Payload = packet.ACK|packet.PSH, 99, []byte("hello?")
		}},
		{name: "FIN with data", change: func(p *packet.Packet) { p.TCP.Flags, p.Payload = packet.FIN, []byte("hello?") }},
	},
	cuts("SYN", options(2, 4, 5, 180, 1, 1, 4, 2)),
	inIP("SYN"),
	routed("SYN"),
	fromTo("SYN", func(p *packet.Packet) {}, true),
	fromTo("ACK", func(p *packet.Packet) { p.TCP.Flags, p.TCP.Ack = packet.ACK, 5 }, false),
	fromTo("FIN", func(p *packet.Packet) { p.TCP.Flags = packet.FIN }, false),
	[]recipe{
		{name: "SYN with record route and the checksum that it makes wrong", only: onlyV4, change: unrecorded},
		{name: "ACK with IP options that do nothing", only: onlyV4, change: func(p *packet.Packet) {
			p.TCP.Flags, p.V4.Options = packet.ACK, []byte{1, 1, 1, 0}
		}},
		{name: "FIN with IP options that do nothing", only: onlyV4, change: func(p *packet.Packet) {
			p.TCP.Flags, p.V4.Options = packet.FIN, []byte{1, 1, 1, 0}
		}},
		{name: "ACK with a broken IP option", only: onlyV4, change: func(p *packet.Packet) {
			p.TCP.Flags, p.V4.Options = packet.ACK, []byte{7, 2, 0, 0}
		}},
	},
)

// udpRecipes begin with a datagram of eight octets.
var udpRecipes = slices.Concat(
	[]recipe{
		{name: "datagram", change: func(p *packet.Packet) {}},
		{name: "datagram with nothing in it", change: func(p *packet.Packet) { p.Payload = nil }},
		{name: "datagram with a token", change: func(p *packet.Packet) { p.Payload = rightToken() }},
		{name: "datagram as long as a token", change: func(p *packet.Packet) { p.Payload = make([]byte, key.TokenSize) }},
		{name: "datagram of 1,400 octets", change: func(p *packet.Packet) { p.Payload = make([]byte, 1400) }},
		{name: "datagram with a wrong checksum", change: func(p *packet.Packet) { p.UDP.ChecksumError = 1 }},
		{name: "datagram with no checksum", change: func(p *packet.Packet) { p.UDP.NoChecksum = true }},
		{name: "datagram with traffic class 0xb8", change: func(p *packet.Packet) { p.TrafficClass = 0xb8 }},
		{name: "datagram with TTL 1", change: func(p *packet.Packet) { p.TTL = 1 }},
		{name: "datagram in a frame to everyone", broadcast: true, change: func(*packet.Packet) {}},
		{name: "datagram from port 0", change: func(p *packet.Packet) { p.UDP.SrcPort = 0 }},
		{name: "datagram longer than it says", change: raw(func(b []byte) []byte { b[5] = 9; return b })},
		{name: "datagram shorter than it says", change: raw(func(b []byte) []byte { b[5] = 200; return b })},
		{name: "datagram cut in its header", change: raw(func(b []byte) []byte { return b[:6] })},
	},
	cuts("datagram", func(p *packet.Packet) { p.Payload = []byte("sixteen octets it") }),
	inIP("datagram"),
	routed("datagram"),
	fromTo("datagram", func(p *packet.Packet) {}, true),
)

// cuts returns a packet in parts.
func cuts(what string, change func(*packet.Packet)) []recipe {
	return []recipe{
		{name: what + " in parts of 8 and the rest", change: func(*packet.Packet) {}, cut: []int{8}},
		{name: what + " with more, cut at 8", change: change, cut: []int{8}},
		{name: what + " with more, cut at 16", change: change, cut: []int{16}},
		{name: what + " with more, cut at 8 and 16", change: change, cut: []int{8, 16}},
		{name: what + " with more, cut at 8, the end first", change: change, cut: []int{8}, order: []int{1, 0}},
		{name: what + " with more, cut at 8 and 16, out of order", change: change, cut: []int{8, 16}, order: []int{1, 2, 0}},
		{name: what + " with more, cut at 8, the first part twice", change: change, cut: []int{8}, order: []int{0, 0, 1}},
		{name: what + " with options in IP, cut at 8", only: onlyV4, cut: []int{8}, change: func(p *packet.Packet) {
			change(p)
			p.V4.Options = []byte{1, 1, 1, 1}
		}},
		{name: what + " with destination options, cut at 8", only: onlyV6, cut: []int{8}, change: func(p *packet.Packet) {
			change(p)
			p.V6.Extensions = []packet.Extension{packet.DestinationOptions()}
		}},
		{name: what + " with destination options, cut at 16", only: onlyV6, cut: []int{16}, change: func(p *packet.Packet) {
			change(p)
			p.V6.Extensions = []packet.Extension{packet.DestinationOptions()}
		}},
	}
}

// inIP returns a packet with an unusual IP header.
func inIP(what string) []recipe {
	v4 := func(name string, change func(*packet.Packet)) recipe {
		return recipe{name: what + name, only: onlyV4, change: change}
	}
	opts := func(octets ...byte) func(*packet.Packet) {
		return func(p *packet.Packet) { p.V4.Options = octets }
	}
	all := []recipe{
		v4(" not to be cut", func(p *packet.Packet) { p.V4.Flags = packet.DontFragment }),
		v4(" with the reserved flag", func(p *packet.Packet) { p.V4.Flags = packet.ReservedFlag }),
		v4(" with a wrong IP checksum", func(p *packet.Packet) { p.V4.ChecksumError = 1 }),
		v4(" with IP options that do nothing", opts(1, 1, 1, 0)),
		v4(" with a router alert", opts(148, 4, 0, 0)),
		v4(" with record route", opts(7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
		v4(" with timestamps", opts(68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
		v4(" with a loose source route", func(p *packet.Packet) {
			a := p.Dst.As4()
			p.V4.Options = []byte{131, 7, 8, a[0], a[1], a[2], a[3], 0}
		}),
		v4(" with a strict source route", func(p *packet.Packet) {
			a := p.Dst.As4()
			p.V4.Options = []byte{137, 7, 4, a[0], a[1], a[2], a[3], 0}
		}),
		v4(" with a broken IP option", opts(7, 2, 0, 0)),
		v4(" with an unknown IP option", opts(222, 4, 0, 0)),
	}
	for _, e := range []struct {
		name string
		all  []packet.Extension
	}{
		{" behind hop-by-hop options", []packet.Extension{packet.HopByHop()}},
		{" behind a router alert", []packet.Extension{packet.HopByHop(5, 2, 0, 0)}},
		{" behind destination options", []packet.Extension{packet.DestinationOptions()}},
		{" behind destination options twice", []packet.Extension{packet.DestinationOptions(), packet.DestinationOptions()}},
		{" behind an option to skip", []packet.Extension{packet.DestinationOptions(0x1e, 2, 0, 0)}},
		{" behind an option to drop", []packet.Extension{packet.DestinationOptions(0x5e, 2, 0, 0)}},
		{" behind an option to complain of", []packet.Extension{packet.DestinationOptions(0x9e, 2, 0, 0)}},
		{" behind a hop-by-hop option to complain of", []packet.Extension{packet.HopByHop(0x9e, 2, 0, 0)}},
		{" behind a routing header of type 0, at its end", []packet.Extension{packet.RoutingHeader(0, 0, 0, 0, 0, 0)}},
		{" behind a routing header of type 0, not at its end",
			[]packet.Extension{packet.RoutingHeader(0, 1, make([]byte, 20)...)}},
		{" behind a routing header of type 2", []packet.Extension{packet.RoutingHeader(2, 0, make([]byte, 20)...)}},
		{" behind a segment routing header", []packet.Extension{packet.RoutingHeader(4, 0, make([]byte, 20)...)}},
		{" behind a routing header of no known type", []packet.Extension{packet.RoutingHeader(200, 1, 0, 0, 0, 0)}},
		{" behind a fragment header that cuts nothing", []packet.Extension{packet.FragmentHeader(815, 0, 0)}},
		{" behind all of them", []packet.Extension{packet.HopByHop(), packet.DestinationOptions(),
			packet.RoutingHeader(0, 0, 0, 0, 0, 0), packet.FragmentHeader(816, 0, 0), packet.DestinationOptions()}},
		{" behind an authentication header", []packet.Extension{authentication}},
		{" behind destination options and an authentication header", []packet.Extension{packet.DestinationOptions(), authentication}},
		{" behind an unknown header", []packet.Extension{{Header: 253, Body: make([]byte, 7)}}},
		{" behind a mobility header", []packet.Extension{{Header: 135, Body: make([]byte, 7)}}},
		{" behind hop-by-hop options in the wrong place",
			[]packet.Extension{packet.DestinationOptions(), packet.HopByHop()}},
	} {
		all = append(all, recipe{name: what + e.name, only: onlyV6, change: func(p *packet.Packet) { p.V6.Extensions = e.all }})
	}
	return all
}

// authentication is a header of IPsec (RFC 4302) of no known association. Its length
// counts four octets at a time.
var authentication = packet.Extension{Header: 51, Body: append([]byte{4}, make([]byte, 22)...)}

// flags returns a packet for each combination of flags.
func flags(all ...string) []recipe {
	var recipes []recipe
	for _, names := range all {
		name := "flags " + names
		if names == "" {
			name = "no flags"
		}
		recipes = append(recipes, recipe{name: name, change: func(p *packet.Packet) {
			p.TCP.Flags = parseFlags(names)
			if p.TCP.Flags&packet.ACK != 0 {
				p.TCP.Ack = 123456
			}
		}})
	}
	return recipes
}

func options(octets ...byte) func(*packet.Packet) {
	return func(p *packet.Packet) { p.TCP.Options = octets }
}

// sumOfZero chooses the sequence number so that the usual answer, whose checksum is
// worked out over it, has a checksum of zero. It has two forms on the wire.
func sumOfZero(p *packet.Packet) {
	const high = 15 << 16
	answer := packet.Packet{Src: p.Dst, Dst: p.Src, TCP: &packet.TCP{
		SrcPort: p.TCP.DstPort, DstPort: p.TCP.SrcPort, Ack: high, Flags: packet.RST | packet.ACK,
	}}
	b, err := answer.Append(nil)
	if err != nil {
		panic(err) // a plain packet can be written
	}
	sum := b[len(b)-4:] // the last four octets of a header: checksum, urgent pointer
	p.TCP.Seq = high + uint32(sum[0])<<8 + uint32(sum[1]) - 1
}

// unrecorded asks for record route, and spoils the checksum by as much as the host changes
// the IP header when it records its address. nft's reject sums up both headers, and if
// connection tracking has not looked at the packet before, takes this one for whole, and the
// one with the right checksum for a broken one. (See stamp_test.go.)
func unrecorded(p *packet.Packet) {
	const pointer, first = 22, 23 // in the header
	p.V4.Options = []byte{7, 7, first - 20 + 1, 0, 0, 0, 0, 0}
	var change [first + 4 - pointer + 1]byte
	change[0] = 4
	dst := p.Dst.As4()
	copy(change[first-pointer:], dst[:])
	spoil(p, change[:])
}

// spoil makes a TCP checksum wrong, so that it is right once these octets, of which the first
// has an even place in the packet, are added to it.
func spoil(p *packet.Packet, octets []byte) {
	b, err := p.Append(nil)
	if err != nil {
		panic(err) // a plain packet can be written
	}
	right := binary.BigEndian.Uint16(b[20+len(p.V4.Options)+16:])
	wrong := uint32(right)
	for i := 0; i < len(octets); i += 2 {
		wrong += 0xffff - uint32(binary.BigEndian.Uint16(octets[i:]))
	}
	for wrong > 0xffff {
		wrong = wrong>>16 + wrong&0xffff
	}
	p.TCP.ChecksumError = right ^ uint16(wrong)
}

// raw changes the octets that follow the IP header.
func raw(change func([]byte) []byte) func(*packet.Packet) {
	return func(p *packet.Packet) {
		b, err := p.Append(nil)
		if err != nil {
			panic(err) // a plain packet can be written
		}
		header := 20
		if p.Src.Is6() {
			header = 40
		}
		p.Protocol = packet.ProtocolTCP
		if p.UDP != nil {
			p.Protocol = packet.ProtocolUDP
		}
		p.TCP, p.UDP, p.Payload = nil, nil, change(b[header:])
	}
}

// make returns the recipe's probe of a port.
func (r recipe) make(w way, protocol packet.Protocol, from, to uint16) (probe, error) {
	p := &packet.Packet{Src: w.src, Dst: w.dst}
	if protocol == packet.ProtocolTCP {
		p.TCP = &packet.TCP{SrcPort: from, DstPort: to, Seq: 1_000_000, Flags: packet.SYN, Window: 64240}
	} else {
		p.UDP = &packet.UDP{SrcPort: from, DstPort: to}
		p.Payload = []byte("anybody?")
	}
	r.change(p)
	// By these its answers are found.
	if p.Src.Is4() {
		p.V4.ID = from
	} else {
		p.V6.FlowLabel = uint32(from)
	}
	made := probe{name: r.name, whole: p, parts: []*packet.Packet{p}, from: from}
	if len(r.cut) == 0 {
		return made, nil
	}
	parts, err := p.Fragments(uint32(from), r.cut...)
	if err != nil {
		return probe{}, err
	}
	made.parts = nil
	order := r.order
	if order == nil {
		for i := range parts {
			order = append(order, i)
		}
	}
	for _, i := range order {
		made.parts = append(made.parts, &parts[i])
	}
	return made, nil
}
