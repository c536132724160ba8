package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Parse parses one IP packet. The result shares b's memory: options and
// payloads are parts of b.
//
// Only a broken IP header is an error. Octets beyond the length in the header
// are ignored: a link may pad. A transport header that is cut short, or whose
// own lengths are inconsistent, stays in Payload, with TCP, UDP and ICMP nil.
// So does such an extension header, with Protocol naming it.
func Parse(b []byte) (*Packet, error) {
	if len(b) == 0 {
		return nil, errors.New("packet: empty")
	}
	p := new(Packet)
	var body []byte
	var err error
	switch version := b[0] >> 4; version {
	case 4:
		body, err = p.parseV4(b)
	case 6:
		body, err = p.parseV6(b)
	default:
		err = fmt.Errorf("packet: IP version %d, not 4 or 6", version)
	}
	if err != nil {
		return nil, err
	}
	p.Payload = body
	if !p.IsFragment() {
		p.parseTransport(body)
	}
	return p, nil
}

func (p *Packet) parseV4(b []byte) (body []byte, err error) {
	if len(b) < v4HeaderLen {
		return nil, fmt.Errorf("packet: %d octets are too short for an IPv4 header, which has 20", len(b))
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < v4HeaderLen || header > total || total > len(b) {
		return nil, fmt.Errorf("packet: IPv4 header of %d octets in a packet of %d, of which %d are here",
			header, total, len(b))
	}
	fragment := binary.BigEndian.Uint16(b[6:])
	p.Src = netip.AddrFrom4([4]byte(b[12:]))
	p.Dst = netip.AddrFrom4([4]byte(b[16:]))
	p.TTL = b[8]
	p.TrafficClass = b[1]
	p.Protocol = Protocol(b[9])
	p.V4 = V4{
		ID:      binary.BigEndian.Uint16(b[4:]),
		Flags:   V4Flags(fragment >> 13),
		Offset:  int(fragment&0x1fff) * 8,
		Options: some(b[v4HeaderLen:header]),
		ChecksumError: binary.BigEndian.Uint16(b[10:]) ^
			sum(0).octets(b[:10]).octets(b[12:header]).checksum(),
	}
	return some(b[header:total]), nil
}

func (p *Packet) parseV6(b []byte) (body []byte, err error) {
	if len(b) < v6HeaderLen {
		return nil, fmt.Errorf("packet: %d octets are too short for an IPv6 header, which has 40", len(b))
	}
	total := v6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return nil, fmt.Errorf("packet: IPv6 packet of %d octets, of which %d are here", total, len(b))
	}
	first := binary.BigEndian.Uint32(b)
	p.Src = netip.AddrFrom16([16]byte(b[8:]))
	p.Dst = netip.AddrFrom16([16]byte(b[24:]))
	p.TTL = b[7]
	p.TrafficClass = byte(first >> 20)
	p.Protocol = Protocol(b[6])
	p.V6.FlowLabel = first & 0xfffff
	body = b[v6HeaderLen:total]
	for len(body) >= 8 {
		size := 8
		switch p.Protocol {
		case ProtocolHopByHop, ProtocolRouting, ProtocolDestinationOptions:
			size = (int(body[1]) + 1) * 8
		case ProtocolFragment:
		default:
			return some(body), nil
		}
		if size > len(body) {
			break
		}
		e := Extension{p.Protocol, body[1:size:size]}
		p.V6.Extensions = append(p.V6.Extensions, e)
		p.Protocol = Protocol(body[0])
		body = body[size:]
		if e.isPart() {
			break
		}
	}
	return some(body), nil
}

// parseTransport parses the header at the start of b if it is complete.
func (p *Packet) parseTransport(b []byte) {
	switch {
	case p.Protocol == ProtocolTCP && len(b) >= tcpHeaderLen:
		header := int(b[12]>>4) * 4
		if header < tcpHeaderLen || header > len(b) {
			return
		}
		p.TCP = &TCP{
			SrcPort:       binary.BigEndian.Uint16(b),
			DstPort:       binary.BigEndian.Uint16(b[2:]),
			Seq:           binary.BigEndian.Uint32(b[4:]),
			Ack:           binary.BigEndian.Uint32(b[8:]),
			Flags:         TCPFlags(binary.BigEndian.Uint16(b[12:]) & 0xfff),
			Window:        binary.BigEndian.Uint16(b[14:]),
			Urgent:        binary.BigEndian.Uint16(b[18:]),
			Options:       some(b[tcpHeaderLen:header]),
			ChecksumError: p.checksumError(b, 16),
		}
		p.Payload = some(b[header:])
	case p.Protocol == ProtocolUDP && len(b) >= udpHeaderLen:
		if int(binary.BigEndian.Uint16(b[4:])) != len(b) {
			return
		}
		p.UDP = &UDP{
			SrcPort: binary.BigEndian.Uint16(b),
			DstPort: binary.BigEndian.Uint16(b[2:]),
		}
		if binary.BigEndian.Uint16(b[6:]) == 0 {
			p.UDP.NoChecksum = true
		} else {
			p.UDP.ChecksumError = p.checksumError(b, 6)
		}
		p.Payload = some(b[udpHeaderLen:])
	case p.Protocol == ProtocolICMP && p.Src.Is4() && len(b) >= icmpHeaderLen,
		p.Protocol == ProtocolICMPv6 && p.Src.Is6() && len(b) >= icmpHeaderLen:
		p.ICMP = &ICMP{
			Type:          b[0],
			Code:          b[1],
			ID:            binary.BigEndian.Uint16(b[4:]),
			Seq:           binary.BigEndian.Uint16(b[6:]),
			ChecksumError: p.checksumError(b, 2),
		}
		p.Payload = some(b[icmpHeaderLen:])
	}
}

func (p *Packet) checksumError(b []byte, at int) uint16 {
	return binary.BigEndian.Uint16(b[at:]) ^ p.rightChecksum(b, at)
}

// some clips b, so that appending to it cannot overwrite what follows, and
// returns nil for an empty slice: a parsed packet then equals the one that was
// written.
func some(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return slices.Clip(b)
}
