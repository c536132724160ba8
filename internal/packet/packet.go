// Package packet writes and parses IP packets field by field.
//
// A test can send a packet that no socket would (a SYN in two fragments, a
// wrong checksum, an extension header) and compare the answer with the kernel's
// own, header field by header field. A bench sends hundreds of thousands of
// packets a second, so writing one does not allocate.
//
// Append turns what Parse returns into the same octets. The zero value of a
// field is what an ordinary packet has, so a SYN is no more than
//
//	p := packet.Packet{
//		Src: netip.MustParseAddr("192.0.2.1"),
//		Dst: netip.MustParseAddr("192.0.2.2"),
//		TCP: &packet.TCP{SrcPort: 40000, DstPort: 22, Flags: packet.SYN},
//	}
//	b, err := p.Append(nil)
//
// The package opens no socket; package lab sends and receives packets.
package packet

import "net/netip"

// A Protocol is an IP protocol number: the next header after an IPv4 header, or
// after an IPv6 header and its extension headers.
type Protocol uint8

// The protocols that this package knows by name. The second group are IPv6
// extension headers.
const (
	ProtocolICMP   Protocol = 1
	ProtocolTCP    Protocol = 6
	ProtocolUDP    Protocol = 17
	ProtocolICMPv6 Protocol = 58

	ProtocolHopByHop           Protocol = 0
	ProtocolRouting            Protocol = 43
	ProtocolFragment           Protocol = 44
	ProtocolDestinationOptions Protocol = 60
)

// DefaultTTL is the TTL (IPv4) or hop limit (IPv6) of a Packet whose TTL is 0.
const DefaultTTL = 64

// A Packet is one IP packet. Src and Dst must be of the same family.
type Packet struct {
	Src, Dst netip.Addr

	TTL          uint8 // the hop limit, in IPv6; 0 is written as DefaultTTL
	TrafficClass uint8 // DSCP and ECN; called TOS in IPv4

	V4 V4 // used when Src is an IPv4 address
	V6 V6 // used when Src is an IPv6 address

	// Protocol is the next header of the last IP header. Append ignores it if
	// TCP, UDP or ICMP is set.
	Protocol Protocol

	// At most one of these is set. With none, Payload follows the IP headers:
	// another protocol, a fragment, or an incomplete header.
	TCP  *TCP
	UDP  *UDP
	ICMP *ICMP

	Payload []byte
}

// V4 holds the fields that only an IPv4 header has.
type V4 struct {
	ID      uint16
	Flags   V4Flags
	Offset  int    // of a fragment, in octets: a multiple of 8
	Options []byte // padded with zeros to a multiple of 4 octets

	// ChecksumError is XORed into the correct header checksum.
	ChecksumError uint16
}

// V4Flags are the three flag bits of an IPv4 header.
type V4Flags uint8

// The flags, as bits of V4Flags.
const (
	MoreFragments V4Flags = 1 << iota
	DontFragment
	ReservedFlag // must be zero (RFC 791)
)

// V6 holds the fields that only an IPv6 header has.
type V6 struct {
	FlowLabel  uint32      // 20 bits
	Extensions []Extension // in the order on the wire
}

// TCP is a TCP header.
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            TCPFlags
	Window           uint16
	Urgent           uint16
	Options          []byte // padded with zeros to a multiple of 4 octets

	// ChecksumError is XORed into the correct checksum.
	ChecksumError uint16
}

// TCPFlags are the twelve bits between the data offset and the window: the
// eight flags, AE above them, and three reserved bits.
type TCPFlags uint16

// The flags, as bits of TCPFlags.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
	AE // accurate ECN, formerly the nonce sum
)

// UDP is a UDP header.
type UDP struct {
	SrcPort, DstPort uint16

	// NoChecksum sets the checksum to zero, which means none in IPv4 and is not
	// allowed in IPv6.
	NoChecksum bool

	// ChecksumError is XORed into the correct checksum.
	ChecksumError uint16
}

// ICMP is an ICMP header in an IPv4 packet and an ICMPv6 header in an IPv6
// packet.
type ICMP struct {
	Type, Code uint8

	// ID and Seq are the four octets after the checksum, named as in echo
	// messages. In an error message, Seq is the MTU or unused, and Payload is
	// the packet that caused the error.
	ID, Seq uint16

	// ChecksumError is XORed into the correct checksum.
	ChecksumError uint16
}

// ICMP types used in knocks and answers.
const (
	EchoReply   = 0
	Unreachable = 3
	EchoRequest = 8
)

// The same types of ICMPv6.
const (
	UnreachableV6 = 1
	EchoRequestV6 = 128
	EchoReplyV6   = 129
)

// IsFragment reports whether the packet is a fragment. Its Payload is then not
// parsed: a fragment need not begin with a whole header.
func (p *Packet) IsFragment() bool {
	if p.Src.Is4() {
		return p.V4.Offset != 0 || p.V4.Flags&MoreFragments != 0
	}
	for _, e := range p.V6.Extensions {
		if e.isPart() {
			return true
		}
	}
	return false
}
