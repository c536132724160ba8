package main

import (
	"errors"
	"net/netip"

	"postern/internal/policy"
)

const (
	sayBothFamilies  = "-4 and -6 exclude each other"
	sayNegativeDelay = "--delay must not be negative"
	hintPing         = "as root: sysctl net.ipv4.ping_group_range=\"0 2147483647\", or run it as root"
)

func errNoKnocks(args int) error {
	if args == 0 {
		return errors.New("which host, and which ports?")
	}
	return errors.New("which ports?")
}

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
