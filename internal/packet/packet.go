// Package packet writes and reads IP packets by hand, field by field.
//
// It exists to say exactly what is on the wire. A test sends the odd packet
// that no socket would (a SYN in two fragments, a wrong checksum, an
// extension header), and compares the answer with the kernel's own, header
// field by header field. A bench sends hundreds of thousands of packets a
// second, so writing one allocates nothing.
//
// The same Packet is written and read: what Parse returns, Append turns back
// into the same octets. The zero value of a field is what an ordinary packet
// has there, so a SYN is no more than
//
//	p := packet.Packet{
//		Src: netip.MustParseAddr("192.0.2.1"),
//		Dst: netip.MustParseAddr("192.0.2.2"),
//		TCP: &packet.TCP{SrcPort: 40000, DstPort: 22, Flags: packet.SYN},
//	}
//	b, err := p.Append(nil)
//
// The package opens no socket; package lab puts packets on a wire.
package packet

import "net/netip"

// A Protocol is an IP protocol number: what follows an IPv4 header, or an
// IPv6 header and its extension headers.
type Protocol uint8

// The protocols that this package knows by name. The second
// group are extension headers of IPv6.
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

// DefaultTTL is the TTL (IPv4) or hop limit (IPv6) of a Packet that names none.
const DefaultTTL = 64

// A Packet is one IP packet. Src and Dst must be of one family, which is the
// family of the packet.
type Packet struct {
	Src, Dst netip.Addr

	TTL          uint8 // the hop limit, in IPv6; 0 is written as DefaultTTL
	TrafficClass uint8 // DSCP and ECN; called TOS in IPv4

	V4 V4 // used when Src is an IPv4 address
	V6 V6 // used when Src is an IPv6 address

	// Protocol is what the last IP header says comes next. Append works it
	// out by itself when TCP, UDP or ICMP is set.
	Protocol Protocol

	// At most one of these is set. With none, Payload follows the IP headers
	// directly: another protocol, a fragment, or a header too short to be one.
	TCP  *TCP
	UDP  *UDP
	ICMP *ICMP

	Payload []byte
}

// V4 holds what only an IPv4 header has.
type V4 struct {
	ID      uint16
	Flags   V4Flags
	Offset  int    // where a fragment starts in the whole, in octets: a multiple of 8
	Options []byte // padded with zeros to a multiple of 4 octets

	// ChecksumError is XORed into the right header checksum. Zero: the
	// checksum is right.
	ChecksumError uint16
}

// V4Flags are the three flag bits of an IPv4 header.
type V4Flags uint8

// The flags, as bits of V4Flags.
const (
	MoreFragments V4Flags = 1 << iota
	DontFragment
	ReservedFlag // must be zero, says RFC 791
)

// V6 holds what only an IPv6 header has.
type V6 struct {
	FlowLabel  uint32      // 20 bits
	Extensions []Extension // in the order of the wire
}

// TCP is a TCP header.
type TCP struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            TCPFlags
	Window           uint16
	Urgent           uint16
	Options          []byte // padded with zeros to a multiple of 4 octets

	// ChecksumError is XORed into the right checksum. Zero: the checksum is
	// right.
	ChecksumError uint16
}

// TCPFlags are the twelve bits between the data offset and the window: the
// eight flags, AE above them, and the three bits still reserved.
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
	AE // accurate ECN, once the nonce sum
)

// UDP is a UDP header.
type UDP struct {
	SrcPort, DstPort uint16

	// NoChecksum writes a checksum of zero, which in IPv4 means that there is
	// none, and in IPv6 is not allowed.
	NoChecksum bool

	// ChecksumError is XORed into the right checksum. Zero: the checksum is
	// right.
	ChecksumError uint16
}

// ICMP is an ICMP header in an IPv4 packet and an ICMPv6 header in an IPv6
// packet.
type ICMP struct {
	Type, Code uint8

	// ID and Seq are the four octets after the checksum. Echo messages call
	// them so. In an error message Seq is the MTU or unused, and the packet
	// complained of is the Payload.
	ID, Seq uint16

	// ChecksumError is XORed into the right checksum. Zero: the checksum is
	// right.
	ChecksumError uint16
}

// The ICMP types that knocks, answers and refusals are made of.
const (
	EchoReply   = 0
	Unreachable = 3
	EchoRequest = 8
)

// The same of ICMPv6.
const (
	UnreachableV6 = 1
	EchoRequestV6 = 128
	EchoReplyV6   = 129
)

// IsFragment tells whether the packet is only a part of one. Its Payload is
// then left as it is: a part's first octets need not be a whole header.
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
