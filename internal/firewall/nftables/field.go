//go:build linux

package nftables

import (
	"fmt"
	"math"
	"net"
	"net/netip"

	nft "github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// A field is something that a packet carries and that fits registers.
type field struct {
	text   string
	bytes  int             // its length; registers are filled up to four bytes
	family family          // the packets that have it; 0 for all
	proto  policy.Protocol // the same
	load   func(register uint32) []expr.Any
}

// A family is one of the two IP versions.
type family byte

const (
	ipv4 family = unix.NFPROTO_IPV4
	ipv6 family = unix.NFPROTO_IPV6
)

var families = []family{ipv4, ipv6}

// of returns an address's family.
func of(addr netip.Addr) family {
	if addr.Unmap().Is4() {
		return ipv4
	}
	return ipv6
}

// suffix is what the names of the family's sets end in.
func (f family) suffix() string {
	if f == ipv4 {
		return "4"
	}
	return "6"
}

// ip is what nft calls the family's header.
func (f family) ip() string {
	if f == ipv4 {
		return "ip"
	}
	return "ip6"
}

// bits is the length of the family's addresses.
func (f family) bits() int {
	if f == ipv4 {
		return 32
	}
	return 128
}

func (f family) datatype() datatype {
	if f == ipv4 {
		return nft.TypeIPAddr
	}
	return nft.TypeIP6Addr
}

// register returns the number of a four-byte register, counted from 0. Those at
// the start of a 16-byte register go by that one's number, as nft writes them.
func register(slot int) uint32 {
	if slot%4 == 0 {
		return uint32(unix.NFT_REG_1 + slot/4)
	}
	return uint32(unix.NFT_REG32_00 + slot)
}

func payload(base expr.PayloadBase, offset, length uint32) func(uint32) []expr.Any {
	return func(reg uint32) []expr.Any {
		return []expr.Any{&expr.Payload{DestRegister: reg, Base: base, Offset: offset, Len: length}}
	}
}

func meta(key expr.MetaKey) func(uint32) []expr.Any {
	return func(reg uint32) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: reg}} }
}

// saddr is the sender's address, with all but its first bits cleared.
func saddr(f family, bits int) field {
	offset := uint32(12)
	if f == ipv6 {
		offset = 8
	}
	a := address(f, "saddr", offset)
	if bits == f.bits() {
		return a
	}
	mask := net.CIDRMask(bits, f.bits())
	whole := a.load
	a.text += " & " + net.IP(mask).String()
	a.load = func(reg uint32) []expr.Any {
		return append(whole(reg), &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask)),
		})
	}
	return a
}

// daddr is the address that the packet is sent to.
func daddr(f family) field {
	if f == ipv6 {
		return address(f, "daddr", 24)
	}
	return address(f, "daddr", 16)
}

func address(f family, name string, offset uint32) field {
	length := f.bits() / 8
	return field{
		text: f.ip() + " " + name, bytes: length, family: f,
		load: payload(expr.PayloadBaseNetworkHeader, offset, uint32(length)),
	}
}

// originalDaddr is the address that the connection's first packet was sent to,
// before any DNAT.
func originalDaddr(f family) field {
	key := expr.CtKeyDSTIP
	if f == ipv6 {
		key = expr.CtKeyDSTIP6
	}
	return field{
		text: "ct original " + f.ip() + " daddr", bytes: f.bits() / 8,
		load: func(reg uint32) []expr.Any { return []expr.Any{&expr.Ct{Key: key, Register: reg}} },
	}
}

// sport and dport are the ports of a protocol that has them.
func sport(p policy.Protocol) field {
	return field{text: p.String() + " sport", bytes: 2, proto: p, load: payload(expr.PayloadBaseTransportHeader, 0, 2)}
}

func dport(p policy.Protocol) field {
	return field{text: p.String() + " dport", bytes: 2, proto: p, load: payload(expr.PayloadBaseTransportHeader, 2, 2)}
}

var (
	// port is the destination port, whatever the protocol: only where the
	// protocol is looked up with it, or is known.
	port = field{text: "th dport", bytes: 2, load: payload(expr.PayloadBaseTransportHeader, 2, 2)}

	// originalPort is the port that the connection's first packet was sent
	// to. nft wants the protocol to be matched before it.
	originalPort = field{
		text: "ct original proto-dst", bytes: 2,
		load: func(reg uint32) []expr.Any { return []expr.Any{&expr.Ct{Key: expr.CtKeyPROTODST, Register: reg}} },
	}

	// sequence stands for the TCP sequence number. It is a hash, with a seed that all
	// rules share, and as hard to guess as the number. What carries it is a traffic class
	// to nft: nft 1.1 lets a hash be assigned to one, and no longer a number from a header.
	sequence = field{
		text: fmt.Sprintf("jhash tcp sequence mod %d seed 0x1", uint32(math.MaxUint32)), bytes: 4, proto: policy.TCP,
		load: func(reg uint32) []expr.Any {
			scratch := register(1)
			return append(payload(expr.PayloadBaseTransportHeader, 4, 4)(scratch), &expr.Hash{
				SourceRegister: scratch, DestRegister: reg, Length: 4, Modulus: math.MaxUint32, Seed: 1,
				Type: expr.HashTypeJenkins,
			})
		},
	}

	// carried is the state or the grant that the packet carries with it.
	carried = field{text: "meta priority", bytes: 4, load: meta(expr.MetaKeyPRIORITY)}

	protocol = field{text: "meta l4proto", bytes: 1, load: meta(expr.MetaKeyL4PROTO)}

	interfaceIndex = field{text: "iif", bytes: 4, load: meta(expr.MetaKeyIIF)}

	interfaceName = field{text: "iifname", bytes: 16, load: meta(expr.MetaKeyIIFNAME)}
)

// carriedBits are some bits of what the packet carries.
func carriedBits(bits uint32) field {
	return field{text: "meta priority & " + idText(bits), bytes: 4, load: func(reg uint32) []expr.Any {
		return append(carried.load(reg), &expr.Bitwise{
			SourceRegister: reg, DestRegister: reg, Len: 4, Mask: idBytes(bits), Xor: idBytes(0),
		})
	}}
}

// icmpType is the type of a family's ICMP.
func icmpType(f family) field {
	text, proto := "icmp type", policy.ICMP
	if f == ipv6 {
		text, proto = "icmpv6 type", policy.ICMPv6
	}
	return field{text: text, bytes: 1, family: f, proto: proto, load: payload(expr.PayloadBaseTransportHeader, 0, 1)}
}

// bucket is a number from 0 to n-1 that depends on the sender's address and on
// a seed that the kernel draws.
func bucket(f family, bits, n int) field {
	from := saddr(f, bits)
	return field{
		text: fmt.Sprintf("jhash %s mod %d", from.text, n), bytes: 4, family: f,
		load: func(reg uint32) []expr.Any {
			scratch := register(1) // as nft does it: the source next to the result
			return append(from.load(scratch), &expr.Hash{
				SourceRegister: scratch, DestRegister: reg, Length: uint32(from.bytes), Modulus: uint32(n),
				Type: expr.HashTypeJenkins,
			})
		},
	}
}

// Values in the bytes that the kernel compares.

func portBytes(n uint16) []byte { return binaryutil.BigEndian.PutUint16(n) }

// idBytes is a state or a grant: a number in the host's byte order, as all of
// a packet's meta data is.
func idBytes(id uint32) []byte { return binaryutil.NativeEndian.PutUint32(id) }

// idText is how nft writes a traffic class.
func idText(id uint32) string {
	if id == 0 {
		return "none"
	}
	return fmt.Sprintf("%x:%x", id>>16, id&0xffff)
}

func nameBytes(name string) []byte {
	b := make([]byte, 16)
	copy(b, name)
	return b
}
