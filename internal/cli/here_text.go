//go:build linux && !arm

package cli

import (
	"postern/internal/cli/ui"

	"fmt"
	"time"

	"postern/internal/firewall/iptables"
	"postern/internal/policy"
)

// What check finds on this host.

const hintKnockInUse = "choose a port that nothing listens on"

func sayKnockInUse(p policy.Port) string {
	return fmt.Sprintf("a program on this host listens on %s: whoever uses it knocks", p)
}

func aboutUnlisted(ports []string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("programs on this host listen on %s, which allow does not list", ui.List(ports)),
		Hints:   []string{"list what clients use, or a connection to it spoils the knock that its sender is at"},
	}
}

// unhurried is the time between two knocks of a client far away, which has to wait
// for nothing but the network.
const unhurried = 50 * time.Millisecond

// aboutCapacity tells what xt_recent cannot do.
func aboutCapacity(c iptables.Capacity) ui.Remark {
	r := ui.Remark{
		Message: fmt.Sprintf("xt_recent remembers %d senders at each knock: %d forged first knocks a second keep out everybody whose knocks are %v apart",
			c.Senders, c.Senders*int(time.Second/unhurried), unhurried),
		Hints: []string{
			fmt.Sprintf("write \"options xt_recent ip_list_tot=%d\" to /etc/modprobe.d/xt_recent.conf, and load the module anew or boot", enough),
			"the nftables backend remembers a million",
		},
	}
	if c.Builtin {
		r.Hints[0] = fmt.Sprintf("add \"xt_recent.ip_list_tot=%d\" to the kernel's command line, and boot", enough)
	}
	return r
}

func unknownCapacity() ui.Remark {
	return ui.Remark{
		Message: "how many senders xt_recent remembers at each knock can be read by root only: 100, if nobody has changed it",
		Hints:   []string{"run it as root to see"},
	}
}
