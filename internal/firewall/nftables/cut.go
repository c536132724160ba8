//go:build linux

package nftables

import (
	"github.com/google/nftables/expr"

	"postern/internal/policy"
)

// isAnswer matches packets that answer the first one of their connection.
var isAnswer = simple("ct direction reply",
	&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register(0)},
	&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: []byte{1}}, // IP_CT_DIR_REPLY
)

// cutting keeps sessions that have been cut from going on. Connection tracking has
// forgotten them, so that the client's packets belong to no known flow. But it takes
// what the server goes on to send for the beginning of one, and the client's packets for
// answers.
func (c *compiler) cutting() {
	cut := c.newChain("cut", "A session that was cut does not go on when the server sends first.")
	for _, f := range families {
		if ports := c.hidden[policy.TCP]; ports != nil {
			cut.add(isNotSYN, in(ports, dport(policy.TCP)), in(c.live.cut[f], tuple(f, policy.TCP)...),
				refresh(c.live.cut[f], sessionsFor, tuple(f, policy.TCP)...), goTo(c.refuse))
		}
		if ports := c.hidden[policy.UDP]; ports != nil {
			cut.add(in(ports, dport(policy.UDP)), in(c.live.cut[f], tuple(f, policy.UDP)...),
				refresh(c.live.cut[f], sessionsFor, tuple(f, policy.UDP)...), goTo(c.judge))
		}
	}
	c.packet.add(isAnswer, jump(cut))
}
