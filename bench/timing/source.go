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
	net48    sourceKind = "/48s"      // each from a fresh /48: nothing is kept by source that could be used up
	net64    sourceKind = "/64s"      // each from a fresh /64 of one /48
	host     sourceKind = "addresses" // each from a fresh address of one /64
	ipv4Many sourceKind = "IPv4"      // each from one of 131,072 addresses
	ipv4One  sourceKind = "one IPv4"  // all from one address
)

var sourceKinds = []sourceKind{net48, net64, host, ipv4Many, ipv4One}

// next returns an address to send in the name of.
func (k sourceKind) next() netip.Addr {
	switch k {
	case net48, net64, host:
		var a [16]byte
		prefix := uint64(0x3fff_0123_4567_0008) // of 3fff::/20, for documentation (RFC 9637)
		switch k {
		case net48:
			prefix = 0x3fff<<48 | rand.Uint64N(1<<44)
		case net64:
			prefix = prefix&^0xffff | rand.Uint64N(1<<16)
		}
		binary.BigEndian.PutUint64(a[:], prefix)
		binary.BigEndian.PutUint64(a[8:], rand.Uint64())
		return netip.AddrFrom16(a)
	case ipv4Many: // RFC 2544's range for benchmarks
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 198<<24|18<<16|rand.Uint32N(1<<17))
		return netip.AddrFrom4(a)
	case ipv4One:
		return netip.AddrFrom4([4]byte{198, 51, 100, 7})
	}
	panic(fmt.Sprintf("timing: no source %q", k))
}
