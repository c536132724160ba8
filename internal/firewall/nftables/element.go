//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"

	"postern/internal/policy"
)

// key joins parts of a concatenation, each filled up to four bytes.
type part struct {
	text  string
	bytes []byte
}

func idPart(id uint32) part { return part{idText(id), idBytes(id)} }

func portParts(p policy.Port) []part {
	return []part{{p.Protocol.String(), []byte{byte(p.Protocol)}}, {fmt.Sprint(p.Number), binary.BigEndian.AppendUint16(nil, p.Number)}}
}

func addrPart(a netip.Addr) part { return part{a.String(), a.AsSlice()} }

func elementOf(parts ...part) element {
	var e element
	for i, p := range parts {
		if i > 0 {
			e.text += " . "
		}
		e.text += p.text
		e.key = append(e.key, p.bytes...)
		if len(parts) > 1 {
			for len(e.key)%4 != 0 {
				e.key = append(e.key, 0)
			}
		}
	}
	return e
}

// to makes the element one of a map.
func (e element) to(id uint32) element {
	e.text += " : " + idText(id)
	e.data = idBytes(id)
	return e
}

// toAddrPort makes the element one of a map to an address and a port.
func (e element) toAddrPort(a netip.AddrPort) element {
	to := elementOf(addrPart(a.Addr()), part{fmt.Sprint(a.Port()), portBytes(a.Port())})
	e.text += " : " + to.text
	e.data = to.key
	return e
}

// accepting, goingTo and jumpingTo make it one of a verdict map.
func (e element) accepting() element {
	e.text += " : accept"
	e.verdict = &expr.Verdict{Kind: expr.VerdictAccept}
	return e
}

func (e element) goingTo(c *chain) element {
	e.text += " : goto " + c.name
	e.verdict = &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.name}
	return e
}

func (e element) jumpingTo(c *chain) element {
	e.text += " : jump " + c.name
	e.verdict = &expr.Verdict{Kind: expr.VerdictJump, Chain: c.name}
	return e
}
