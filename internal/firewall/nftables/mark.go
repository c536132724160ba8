//go:build linux

package nftables

import (
	"fmt"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"postern/internal/firewall"
	"postern/internal/policy"
)

// marking fills the chain that marks what was admitted, and nothing else. It is a
// chain of its own, and not a part of the one that admits: a SYN is admitted before
// connection tracking, which has no connection to mark then, and one that comes again
// is admitted by what it was the first time.
func (c *compiler) marking() {
	if c.admitted == nil {
		return
	}
	marked := c.newChain("marked", "The bits are set in the packet's mark and in its connection's; the others stay.")
	marked.add(setMark(packetMark, c.p.Admitted.Mark))
	marked.add(setMark(connectionMark, c.p.Admitted.Mark))
	marked.add(goTo(c.pass))

	c.ungoverned(c.admitted)
	c.keepRefused(c.admitted)
	for _, f := range families {
		if c.live.syns != nil {
			c.admitted.add(isSYN, carry(sequence),
				in(c.live.syns[f], append(originalTuple(f, policy.TCP), carried)...), goTo(marked))
		}
	}
	if c.live.packets != nil {
		c.admitted.add(isEstablished, accept)
	}
	for _, f := range families {
		if c.live.packets != nil {
			c.admitted.add(in(c.live.packets[f], originalTuple(f, policy.UDP)...), goTo(marked))
		}
	}
	if c.live.syns != nil { // others' SYNs still carry their sequence numbers
		c.admitted.add(carryID(0))
	}
}

// A markOf is one of the two marks, as nft calls it.
type markOf struct {
	text      string
	load, set expr.Any
}

var (
	packetMark = markOf{"meta mark",
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register(0)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register(0), SourceRegister: true}}
	connectionMark = markOf{"ct mark",
		&expr.Ct{Key: expr.CtKeyMARK, Register: register(0)},
		&expr.Ct{Key: expr.CtKeyMARK, Register: register(0), SourceRegister: true}}
)

// setMark sets the bits of a mark.
func setMark(of markOf, m policy.Mark) statement {
	mask, bits := binaryutil.NativeEndian.PutUint32(^uint32(m)), binaryutil.NativeEndian.PutUint32(uint32(m))
	return simple(fmt.Sprintf("%s set %s | 0x%08x", of.text, of.text, uint32(m)),
		of.load,
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 4, Mask: mask, Xor: bits},
		of.set,
	)
}

// marks reports whether what was admitted is marked before a chain of others sees it.
// Of chains with the same priority, those come first that were made first.
func marks(h firewall.Hook) bool { return h.Name != "prerouting" || h.Priority > MarkPriority }
