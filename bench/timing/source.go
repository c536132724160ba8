//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// A sourceKind says whose name probes are sent in.
type sourceKind string

const (
	eachNet  sourceKind = "/64s"      // each from a fresh address of a fresh /64
	oneNet   sourceKind = "addresses" // each from a fresh address of the same /64
	ipv4Many sourceKind = "IPv4"      // each from one of 131,072 addresses
	ipv4One  sourceKind = "one IPv4"  // all from the same address
)

func (k sourceKind) next() netip.Addr {
	switch k {
	case eachNet, oneNet:
		a := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 7, 0, 8}
		if k == eachNet {
			binary.BigEndian.PutUint32(a[4:], rand.Uint32())
		}
		binary.BigEndian.PutUint64(a[8:], rand.Uint64())
		return netip.AddrFrom16(a)
	case ipv4Many: // RFC 2544's range for benchmarks
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 198<<24|18<<16|uint32(rand.IntN(1<<17)))
		return netip.AddrFrom4(a)
	case ipv4One:
		return netip.AddrFrom4([4]byte{198, 51, 100, 7})
	}
	panic(fmt.Sprintf("timing: no source %q", k))
}
