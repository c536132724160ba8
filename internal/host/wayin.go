package host

import (
	"net/netip"

	"postern/internal/policy"
)

// A Way is a path on which the caller's packets come to this host: the port that
// they logged in at, or what carries that log-in.
type Way struct {
	By       string // what serves it: "SSH", "mosh", "wg0"
	Protocol policy.Protocol
	Remote   netip.AddrPort // the other end; the port is 0 if it is not known
	Local    netip.AddrPort // of this host, as the program that serves it sees it

	// Original is where the packets were sent to. It differs from Local where a NAT
	// rule of this host redirects them, and that is before some backends' rules.
	Original netip.AddrPort

	Through string // the interface under which the packets arrive; "" if that is not known
}

// Port returns the port that the packets are sent to.
func (w Way) Port() policy.Port {
	return policy.Port{Protocol: w.Protocol, Number: w.Original.Port()}
}
