//go:build linux && !(386 || arm || mips || mipsle)

package otherrules

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// rejects reads nft's reject.
func rejects(e *expr.Reject, is6 bool) policy.Answer {
	port := uint8(3) // destination unreachable, port unreachable (RFC 792)
	if is6 {
		port = 4 // (RFC 4443)
	}
	switch {
	case e.Type == unix.NFT_REJECT_TCP_RST:
		return policy.AnswerReset
	case e.Type == unix.NFT_REJECT_ICMP_UNREACH && e.Code == port,
		e.Type == unix.NFT_REJECT_ICMPX_UNREACH && e.Code == unix.NFT_REJECT_ICMPX_PORT_UNREACH:
		return policy.AnswerUnreachable
	}
	return policy.AnswerOther
}

// rejectsLegacy reads a target of iptables': REJECT has one number, which means
// something else in each family (ipt_REJECT.h, ip6t_REJECT.h).
func rejectsLegacy(e *expr.Target, is6 bool) policy.Answer {
	if e.Name != "REJECT" {
		return policy.NoAnswer
	}
	port, reset := uint32(3), uint32(7)
	if is6 {
		port, reset = 4, 6
	}
	info, ok := e.Info.(*xt.Unknown)
	if !ok || len(*info) < 4 {
		return policy.AnswerOther
	}
	switch binary.NativeEndian.Uint32(*info) {
	case port:
		return policy.AnswerUnreachable
	case reset:
		return policy.AnswerReset
	}
	return policy.AnswerOther
}
