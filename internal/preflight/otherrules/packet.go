//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// A packet is the first of a connection from anyone: what is not known of it
// is what depends on who that is.
type packet struct {
	port      policy.Port
	is6       bool
	forwarded bool // it was sent on to another host
	sender    sender
	mark      mark

	network, transport header
}

// A header is the beginning of one, of which some bits are known.
type header struct {
	bytes, known [40]byte
}

func (h *header) put(at int, bytes ...byte) {
	copy(h.bytes[at:], bytes)
	for i := range bytes {
		h.known[at+i] = whole
	}
}

// newPacket makes a packet to a port; the address is the zero value where it
// may be any.
func newPacket(port policy.Port, to netip.Addr, is6 bool) packet {
	p := packet{port: port, is6: is6}
	protocolAt, destAt := 9, 16
	if is6 {
		protocolAt, destAt = 6, 24
	}
	p.network.put(protocolAt, byte(port.Protocol))
	if to.IsValid() {
		p.network.put(destAt, to.AsSlice()...)
	}
	p.transport.put(2, binary.BigEndian.AppendUint16(nil, port.Number)...)
	if port.Protocol == policy.TCP {
		p.transport.put(13, tcpSYN)
	}
	return p
}

const tcpSYN = 0x02

// Connection tracking's words for the packet (nf_conntrack_common.h).
const (
	stateNew      = 1 << 3
	statusDNAT    = 1 << 5
	addrTypeLocal = 2 // RTN_LOCAL
	addrTypeOther = 1 // RTN_UNICAST
)

// load puts what an expression asks of the packet into registers. It reports
// whether the expression is one that loads.
func (p *packet) load(r *registers, e expr.Any) bool {
	number := func(at uint32, n uint32) { r.put(at, binary.NativeEndian.AppendUint32(nil, n)) }
	switch e := e.(type) {
	case *expr.Payload:
		if e.OperationType == expr.PayloadWrite {
			return true
		}
		p.loadHeader(r, e)
	case *expr.Meta:
		if e.SourceRegister {
			return true
		}
		switch e.Key {
		case expr.MetaKeyL4PROTO:
			r.put(e.Register, []byte{byte(p.port.Protocol)})
		case expr.MetaKeyNFPROTO:
			family := byte(unix.NFPROTO_IPV4)
			if p.is6 {
				family = unix.NFPROTO_IPV6
			}
			r.put(e.Register, []byte{family})
		case expr.MetaKeyPROTOCOL:
			ethertype := uint16(unix.ETH_P_IP)
			if p.is6 {
				ethertype = unix.ETH_P_IPV6
			}
			r.put(e.Register, binary.BigEndian.AppendUint16(nil, ethertype))
		case expr.MetaKeyMARK:
			p.mark.load(r, e.Register)
		case expr.MetaKeyIIFNAME, expr.MetaKeyIIF, expr.MetaKeyIIFTYPE, expr.MetaKeyIIFGROUP:
			p.loadInterface(r, e)
		default:
			r.unknown(e.Register, unix.IFNAMSIZ)
		}
	case *expr.Ct:
		switch {
		case e.SourceRegister:
		case e.Key == expr.CtKeySTATE:
			number(e.Register, stateNew)
		case e.Key == expr.CtKeySTATUS && p.forwarded:
			number(e.Register, statusDNAT)
		case e.Key == expr.CtKeySTATUS:
			number(e.Register, 0)
		case e.Key == expr.CtKeyMARK:
			p.mark.load(r, e.Register)
		default:
			r.unknown(e.Register, 16)
		}
	case *expr.Fib:
		switch {
		case e.ResultADDRTYPE && e.FlagDADDR && !p.forwarded:
			number(e.Register, addrTypeLocal)
		case e.ResultADDRTYPE && (e.FlagSADDR || e.FlagDADDR):
			number(e.Register, addrTypeOther)
		default:
			r.unknown(e.Register, unix.IFNAMSIZ)
		}
	case *expr.Exthdr:
		r.unknown(e.DestRegister, 16)
	case *expr.Hash:
		r.unknown(e.DestRegister, 4)
	case *expr.Numgen:
		r.unknown(e.Register, 4)
	default:
		return false
	}
	return true
}

func (p *packet) loadHeader(r *registers, e *expr.Payload) {
	h := &header{}
	switch e.Base {
	case expr.PayloadBaseNetworkHeader:
		h = &p.network
	case expr.PayloadBaseTransportHeader:
		h = &p.transport
		if e.Offset <= 2 && e.Offset+e.Len >= 4 {
			r.named = true
		}
	}
	from, to := int(e.Offset), int(e.Offset+e.Len)
	if to > len(h.bytes) {
		r.unknown(e.DestRegister, int(e.Len))
		return
	}
	source, sourceEnd := p.sourceAt(), p.sourceAt()+4
	if p.is6 {
		sourceEnd = source + 16
	}
	switch {
	case e.Base == expr.PayloadBaseNetworkHeader && source <= from && to <= sourceEnd:
		field := sourceAddress
		if p.is6 {
			field = sourceAddress6
		}
		defer r.dependsOnSender(e.DestRegister, int(e.Len), field)
	case e.Base == expr.PayloadBaseLLHeader:
		defer r.dependsOnSender(e.DestRegister, int(e.Len), linkLayer)
	}
	r.put(e.DestRegister, h.bytes[from:to])
	at := place(e.DestRegister)
	for i := from; i < to && at+i-from < len(r.known); i++ {
		r.known[at+i-from] = h.known[i]
	}
}

// registers are nftables' registers while one rule is judged.
type registers struct {
	bytes       [64]byte
	known       [64]byte // the bits that are
	sender      [64]bool // what is unknown depends on the sender alone
	field       [64]senderField
	masks       map[int][]byte // of registers that hold some bits of the sender's address
	notLoopback bool           // an interface was loaded, and it is not "lo"
	named       bool           // the packet's port was asked for
}

// whole is a byte all of whose bits are known.
const whole = 0xff

// place is where a register begins: there are four of 16 bytes, and the same
// again as sixteen of four.
func place(register uint32) int {
	if register >= unix.NFT_REG32_00 {
		return int(register-unix.NFT_REG32_00) * 4 % 64
	}
	return int(register+3) * 16 % 64 // 1 is the first
}

// put fills whole words, as the kernel does.
func (r *registers) put(register uint32, value []byte) {
	at := place(register)
	for i := range (len(value) + 3) / 4 * 4 {
		if at+i >= len(r.bytes) {
			return
		}
		r.bytes[at+i], r.known[at+i], r.sender[at+i] = 0, whole, false
		r.field[at+i] = notSender
		if i < len(value) {
			r.bytes[at+i] = value[i]
		}
	}
}

func (r *registers) unknown(register uint32, length int) {
	at := place(register)
	for i := at; i < min(at+length, len(r.known)); i++ {
		r.known[i], r.sender[i], r.field[i] = 0, false, notSender
	}
}

// get returns the value of a register, and which of its bits are known.
func (r *registers) get(register uint32, length int) (value, known []byte) {
	at := place(register)
	end := min(at+length, len(r.bytes))
	return r.bytes[at:end], r.known[at:end]
}
