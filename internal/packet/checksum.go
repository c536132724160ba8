package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// A sum is an Internet checksum (RFC 1071) under construction. The addition is
// ones' complement, so any word size will do: it adds eight octets at a time
// and folds at the end.
type sum uint64

func (s sum) add(v uint64) sum {
	r, carry := bits.Add64(uint64(s), v, 0)
	return sum(r + carry)
}

// octets adds b as 16-bit words. Only the last call in a chain may pass an odd
// number of octets.
func (s sum) octets(b []byte) sum {
	for len(b) >= 8 {
		s = s.add(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	if len(b) == 0 {
		return s
	}
	var rest [8]byte
	copy(rest[:], b)
	return s.add(binary.BigEndian.Uint64(rest[:]))
}

// addr adds an address, for the pseudo header of TCP, UDP and ICMPv6.
func (s sum) addr(a netip.Addr) sum {
	if a.Is4() {
		b := a.As4()
		return s.octets(b[:])
	}
	b := a.As16()
	return s.octets(b[:])
}

// checksum folds the sum to 16 bits and complements it.
func (s sum) checksum() uint16 {
	v := uint64(s)
	for v > 0xffff {
		v = v>>16 + v&0xffff
	}
	return ^uint16(v)
}

// transportChecksum returns the correct checksum of a transport header and its
// payload. It leaves out the checksum field itself, which is at the offset
// skip.
//
// With a routing header, the pseudo header should hold the final address. That
// address is not looked for: Dst is used as it is.
func (p *Packet) transportChecksum(protocol Protocol, b []byte, skip int) uint16 {
	var s sum
	if protocol != ProtocolICMP {
		s = s.addr(p.Src).addr(p.Dst).add(uint64(protocol)).add(uint64(len(b)))
	}
	s = s.octets(b[:skip]).octets(b[skip+2:])
	return s.checksum()
}
