package main

import (
	"net/netip"

	"postern/internal/policy"
)

const (
	sayNobodyToKnock = "which host?"
	sayBothFamilies  = "-4 and -6 exclude each other"
	sayNegativeDelay = "--delay must not be negative"
	hintPorts        = "to knock at a host that is not in the file, write its ports after it"
	hintPing         = "as root: sysctl net.ipv4.ping_group_range=\"0 2147483647\", or run it as root"
)

func (v *voice) sayKnock(n, of int, p policy.Port, to netip.Addr) {
	v.say("knock %d of %d: %s of %s", n, of, p, to)
}

func (v *voice) sayKnocked(name string, to netip.Addr) {
	if name == to.String() {
		v.say("knocked; connect now")
		return
	}
	v.say("knocked; connect now, to %s", to)
}
