package packet

import (
	"encoding/binary"
	"fmt"
)

const (
	v4HeaderLen   = 20
	v6HeaderLen   = 40
	tcpHeaderLen  = 20
	udpHeaderLen  = 8
	icmpHeaderLen = 8
)

// Append appends the packet to b, IP header first, and returns the longer
// slice. It computes lengths, header sizes and checksums. It does not allocate
// if b has room.
//
// A packet that cannot be written (addresses of two families, options that do
// not fit) is an error, and b is returned as it was.
func (p *Packet) Append(b []byte) ([]byte, error) {
	if err := p.validate(); err != nil {
		return b, err
	}
	start := len(b)
	b = p.appendIP(b)
	body := len(b)
	b = p.appendTransport(b)
	if p.Src.Is4() {
		if len(b)-start > 0xffff {
			return b[:start], fmt.Errorf("packet: %d octets are too many for one IPv4 packet", len(b)-start)
		}
		h := b[start:body]
		binary.BigEndian.PutUint16(h[2:], uint16(len(b)-start))
		binary.BigEndian.PutUint16(h[10:], sum(0).octets(h).checksum()^p.V4.ChecksumError)
		return b, nil
	}
	if len(b)-start-v6HeaderLen > 0xffff {
		return b[:start], fmt.Errorf("packet: %d octets are too many for one IPv6 packet", len(b)-start)
	}
	binary.BigEndian.PutUint16(b[start+4:], uint16(len(b)-start-v6HeaderLen))
	return b, nil
}

// validate rejects packets that have no form on the wire.
func (p *Packet) validate() error {
	is4 := p.Src.Is4()
	set := 0
	for _, has := range [...]bool{p.TCP != nil, p.UDP != nil, p.ICMP != nil} {
		if has {
			set++
		}
	}
	switch {
	case !p.Src.IsValid() || !p.Dst.IsValid():
		return fmt.Errorf("packet: needs a source and a destination, has %q and %q", p.Src, p.Dst)
	case is4 != p.Dst.Is4():
		return fmt.Errorf("packet: source %s and destination %s are of two families", p.Src, p.Dst)
	case set > 1:
		return fmt.Errorf("packet: more than one of TCP, UDP and ICMP is set")
	case is4 && len(p.V6.Extensions) > 0:
		return fmt.Errorf("packet: extension headers in an IPv4 packet, from %s", p.Src)
	case len(p.V4.Options) > 40:
		return fmt.Errorf("packet: %d octets of IPv4 options, of at most 40", len(p.V4.Options))
	case p.V4.Offset%8 != 0 || p.V4.Offset < 0 || p.V4.Offset > 0x1fff*8:
		return fmt.Errorf("packet: fragment offset %d is not a multiple of 8 up to 65528", p.V4.Offset)
	case p.V6.FlowLabel > 0xfffff:
		return fmt.Errorf("packet: flow label %#x is longer than 20 bits", p.V6.FlowLabel)
	case p.TCP != nil && len(p.TCP.Options) > 40:
		return fmt.Errorf("packet: %d octets of TCP options, of at most 40", len(p.TCP.Options))
	case p.TCP != nil && p.TCP.Flags > 0xfff:
		return fmt.Errorf("packet: TCP flags %#x are longer than 12 bits", uint16(p.TCP.Flags))
	}
	return nil
}

// protocol returns the protocol number for the last IP header.
func (p *Packet) protocol() Protocol {
	switch {
	case p.TCP != nil:
		return ProtocolTCP
	case p.UDP != nil:
		return ProtocolUDP
	case p.ICMP != nil && p.Src.Is4():
		return ProtocolICMP
	case p.ICMP != nil:
		return ProtocolICMPv6
	}
	return p.Protocol
}

// appendIP appends the IP header and its extensions. Length and checksum stay
// zero; Append fills them in at the end.
func (p *Packet) appendIP(b []byte) []byte {
	ttl := p.TTL
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if p.Src.Is4() {
		src, dst := p.Src.As4(), p.Dst.As4()
		words := byte(v4HeaderLen+padded(len(p.V4.Options))) / 4
		b = append(b, 4<<4|words, p.TrafficClass, 0, 0)
		b = binary.BigEndian.AppendUint16(b, p.V4.ID)
		b = binary.BigEndian.AppendUint16(b, uint16(p.V4.Flags&7)<<13|uint16(p.V4.Offset/8))
		b = append(b, ttl, byte(p.protocol()), 0, 0)
		b = append(b, src[:]...)
		b = append(b, dst[:]...)
		return appendPadded(b, p.V4.Options)
	}
	src, dst := p.Src.As16(), p.Dst.As16()
	b = binary.BigEndian.AppendUint32(b, 6<<28|uint32(p.TrafficClass)<<20|p.V6.FlowLabel)
	b = append(b, 0, 0, 0, ttl)
	next := len(b) - 2 // the offset of the next-header field
	b = append(b, src[:]...)
	b = append(b, dst[:]...)
	for _, e := range p.V6.Extensions {
		b[next] = byte(e.Header)
		next = len(b)
		b = append(b, 0)
		b = append(b, e.Body...)
	}
	b[next] = byte(p.protocol())
	return b
}

// appendTransport appends the transport header, if any, and the payload.
func (p *Packet) appendTransport(b []byte) []byte {
	start := len(b)
	switch {
	case p.TCP != nil:
		t := p.TCP
		words := uint16(tcpHeaderLen+padded(len(t.Options))) / 4
		b = binary.BigEndian.AppendUint16(b, t.SrcPort)
		b = binary.BigEndian.AppendUint16(b, t.DstPort)
		b = binary.BigEndian.AppendUint32(b, t.Seq)
		b = binary.BigEndian.AppendUint32(b, t.Ack)
		b = binary.BigEndian.AppendUint16(b, words<<12|uint16(t.Flags))
		b = binary.BigEndian.AppendUint16(b, t.Window)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, t.Urgent)
		b = appendPadded(b, t.Options)
		b = append(b, p.Payload...)
		p.putChecksum(b[start:], 16, t.ChecksumError)
	case p.UDP != nil:
		u := p.UDP
		b = binary.BigEndian.AppendUint16(b, u.SrcPort)
		b = binary.BigEndian.AppendUint16(b, u.DstPort)
		b = binary.BigEndian.AppendUint16(b, uint16(udpHeaderLen+len(p.Payload)))
		b = append(b, 0, 0)
		b = append(b, p.Payload...)
		if !u.NoChecksum {
			p.putChecksum(b[start:], 6, u.ChecksumError)
		}
	case p.ICMP != nil:
		i := p.ICMP
		b = append(b, i.Type, i.Code, 0, 0)
		b = binary.BigEndian.AppendUint16(b, i.ID)
		b = binary.BigEndian.AppendUint16(b, i.Seq)
		b = append(b, p.Payload...)
		p.putChecksum(b[start:], 2, i.ChecksumError)
	default:
		b = append(b, p.Payload...)
	}
	return b
}

// putChecksum fills in the checksum field at an offset of b, which holds the
// transport header and its payload.
func (p *Packet) putChecksum(b []byte, at int, wrong uint16) {
	binary.BigEndian.PutUint16(b[at:], p.rightChecksum(b, at)^wrong)
}

// rightChecksum returns transportChecksum, except that UDP writes a sum of zero
// as 0xffff: zero would mean no checksum.
func (p *Packet) rightChecksum(b []byte, at int) uint16 {
	c := p.transportChecksum(p.protocol(), b, at)
	if c == 0 && p.UDP != nil {
		return 0xffff
	}
	return c
}

// padded rounds the length of options up to whole words.
func padded(n int) int { return (n + 3) &^ 3 }

func appendPadded(b, options []byte) []byte {
	b = append(b, options...)
	for range padded(len(options)) - len(options) {
		b = append(b, 0)
	}
	return b
}
