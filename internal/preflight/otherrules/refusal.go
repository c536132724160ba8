//go:build linux && !arm

package otherrules

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// A Refusal is what the sender of a packet that does not get in hears of it.
type Refusal int

const (
	Silence     Refusal = iota
	Reset               // TCP's RST
	Unreachable         // ICMP's port unreachable
	Otherwise           // another ICMP error
)

// rejects reads nft's reject.
func rejects(e *expr.Reject, is6 bool) Refusal {
	port := uint8(3) // destination unreachable, port unreachable (RFC 792)
	if is6 {
		port = 4 // (RFC 4443)
	}
	switch {
	case e.Type == unix.NFT_REJECT_TCP_RST:
		return Reset
	case e.Type == unix.NFT_REJECT_ICMP_UNREACH && e.Code == port,
		e.Type == unix.NFT_REJECT_ICMPX_UNREACH && e.Code == unix.NFT_REJECT_ICMPX_PORT_UNREACH:
		return Unreachable
	}
	return Otherwise
}

// rejectsLegacy reads a target of iptables': REJECT has one number, which means
// something else in each family (ipt_REJECT.h, ip6t_REJECT.h).
func rejectsLegacy(e *expr.Target, is6 bool) Refusal {
	if e.Name != "REJECT" {
		return Silence
	}
	port, reset := uint32(3), uint32(7)
	if is6 {
		port, reset = 4, 6
	}
	info, ok := e.Info.(*xt.Unknown)
	if !ok || len(*info) < 4 {
		return Otherwise
	}
	switch binary.NativeEndian.Uint32(*info) {
	case port:
		return Unreachable
	case reset:
		return Reset
	}
	return Otherwise
}
