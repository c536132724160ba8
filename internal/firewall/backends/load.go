//go:build linux && !(386 || arm || mips || mipsle)

package backends

import (
	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
)

// Load reports whether backends can load rules on this system.
const Load = true

var all = []firewall.Backend{nftables.Backend{}, iptables.Backend{}}
