package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// An Extension is one extension header of an IPv6 packet.
type Extension struct {
	Header Protocol // which header this is, not which one is next

	// Body is everything after the first octet, which holds the next header.
	// Its own first octet is the length in units of 8 octets, not counting the
	// first 8 (in a fragment header: reserved).
	Body []byte
}

// HopByHop returns a hop-by-hop options header. It is padded with zeros, which
// are one-octet pad options.
func HopByHop(options ...byte) Extension {
	return optionsHeader(ProtocolHopByHop, options)
}

// DestinationOptions returns a destination options header, as HopByHop does.
func DestinationOptions(options ...byte) Extension {
	return optionsHeader(ProtocolDestinationOptions, options)
}

// RoutingHeader returns a routing header of the given type. Data follows its
// first four octets.
func RoutingHeader(kind, segmentsLeft uint8, data ...byte) Extension {
	return optionsHeader(ProtocolRouting, append([]byte{kind, segmentsLeft}, data...))
}

// optionsHeader returns a header in the layout that three extension headers
// share.
func optionsHeader(header Protocol, data []byte) Extension {
	size := (2 + len(data) + 7) / 8 * 8
	body := make([]byte, size-1)
	body[0] = byte(size/8 - 1)
	copy(body[1:], data)
	return Extension{header, body}
}

// FragmentHeader returns the header of the fragment that starts at offset, in
// octets, which must be a multiple of 8. With offset 0 and no more fragments it
// makes an atomic fragment, which is a whole packet.
func FragmentHeader(id uint32, offset int, flags V4Flags) Extension {
	body := make([]byte, 7)
	binary.BigEndian.PutUint16(body[1:], uint16(offset)&^7|uint16(flags&MoreFragments))
	binary.BigEndian.PutUint32(body[3:], id)
	return Extension{ProtocolFragment, body}
}

// isPart reports whether the header makes the packet a fragment.
func (e Extension) isPart() bool {
	return e.Header == ProtocolFragment && len(e.Body) == 7 &&
		binary.BigEndian.Uint16(e.Body[1:])&^6 != 0
}

// Fragments cuts the packet at the given offsets and returns the fragments in
// order. Offsets must rise and be multiples of 8. They count from the first
// octet that may be cut: in IPv4 the transport header; in IPv6 what follows the
// last header that every router must see (hop-by-hop options, a routing
// header).
//
// The id goes into the fragment header; IPv4 uses its lower half.
func (p *Packet) Fragments(id uint32, at ...int) ([]Packet, error) {
	if p.IsFragment() {
		return nil, errors.New("packet: cannot cut a fragment again")
	}
	head := *p
	head.TCP, head.UDP, head.ICMP, head.Payload = nil, nil, nil, nil
	whole, err := p.Append(nil)
	if err != nil {
		return nil, err
	}
	cut := v4HeaderLen + padded(len(p.V4.Options))
	if p.Src.Is6() {
		cut = v6HeaderLen
		keep := 0
		for i, e := range p.V6.Extensions {
			if e.Header == ProtocolHopByHop || e.Header == ProtocolRouting {
				keep = i + 1
			}
		}
		for _, e := range p.V6.Extensions[:keep] {
			cut += 1 + len(e.Body)
		}
		head.V6.Extensions = p.V6.Extensions[:keep:keep]
		head.Protocol = p.protocol()
		if keep < len(p.V6.Extensions) {
			head.Protocol = p.V6.Extensions[keep].Header
		}
	} else {
		head.Protocol = p.protocol()
		head.V4.ID = uint16(id)
	}
	body := whole[cut:]

	var parts []Packet
	from := 0
	for i := range len(at) + 1 {
		to, flags := len(body), V4Flags(0)
		if i < len(at) {
			to, flags = at[i], MoreFragments
			if to <= from || to >= len(body) || to%8 != 0 {
				return nil, fmt.Errorf("packet: cannot cut %d octets at %v: offsets must rise, "+
					"be multiples of 8 and lie inside", len(body), at)
			}
		}
		part := head
		part.Payload = body[from:to:to]
		if p.Src.Is4() {
			part.V4.Offset = from
			part.V4.Flags = part.V4.Flags&^DontFragment | flags
		} else {
			part.V6.Extensions = append(slices.Clone(head.V6.Extensions), FragmentHeader(id, from, flags))
		}
		parts = append(parts, part)
		from = to
	}
	return parts, nil
}
