package main

import (
	"fmt"

	"postern/internal/hosts"
)

const (
	shortConnect = "open a host's door, and speak with the service behind it"
	longConnect  = `Knocks at a host of the hosts file and connects, again and again until the
connection stands. Then standard input goes there and standard output comes from
there, until the service ends it. It is made for ssh, which logs in through it as
through any connection.

With --json the answer goes to standard error, as standard output is the
service's: one line when the connection stands, with how many tries and how long
it took, or one with what went wrong.`
	exampleConnect = `  ssh -o ProxyCommand="postern connect home" home.example
  postern connect web < request`

	flagPatience = "how much `TIME` to give an opening, in place of what the hosts file says"
	flagQuiet    = "say nothing but what went wrong"

	sayNobodyToReach = "which host? \"postern hosts\" lists them"
	sayNoTime        = "--timeout must be greater than 0"
)

func (v *voice) sayOpened(o *opened) {
	v.say("%s is open, %s: %s", o.Host, howOpened(o), o.Address)
}

func notTCP(h *hosts.Host) *failure {
	return &failure{
		Code: codeFailed, Message: fmt.Sprintf("%s is %s, and only TCP can be connected to", h.Name, h.Service),
		Hints: []string{fmt.Sprintf("\"postern knock %s\", and then its own client", h.Name)},
	}
}
