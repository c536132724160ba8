package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"postern/internal/hosts"
	"postern/internal/knocker"
)

const (
	shortConnect = "open a host's door, and speak with the service behind it"
	longConnect  = `Knocks at a host of the hosts file and connects, again and again until the
connection stands. Then standard input goes there and standard output comes from
there. It is made for ssh, which logs in through it as through any connection.`
	exampleConnect = `  ssh -o ProxyCommand="postern connect home" home.example
  postern connect web < request`

	flagPatience = "how long to try before giving up, in place of what the hosts file says"
	flagQuiet    = "say nothing but what went wrong"

	sayNobodyToReach = "which host? \"postern hosts\" lists them"
	sayNoTime        = "--timeout must be greater than 0"
)

func (v *voice) sayOpened(h *hosts.Host, to string, tries int, took time.Duration) {
	again := ""
	if tries > 1 {
		again = fmt.Sprintf(" at the %s try", ordinal(tries))
	}
	v.say("%s is open%s, after %v: %s", h.Name, again, took.Round(time.Millisecond), to)
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

func notTCP(h *hosts.Host) *failure {
	return &failure{
		Code: codeFailed, Message: fmt.Sprintf("%s is %s, and only TCP can be connected to", h.Name, h.Service),
		Hints: []string{fmt.Sprintf("\"postern knock %s\", and then its own client", h.Name)},
	}
}

// staysShut says which of the likely causes fits what was seen.
func staysShut(h *hosts.Host, addresses []netip.Addr, shut *knocker.OpenError) *failure {
	f := &failure{Code: codeShut, err: shut}
	where := fmt.Sprintf("%s of %s", h.Service, h.Address)
	if h.Address != addresses[0].String() {
		where += fmt.Sprintf(" (%s)", addresses[0])
	}
	tried := count(len(shut.Tries), "round") + " of knocks"
	switch {
	case len(shut.Tries) == 0:
		f.Message = fmt.Sprintf("%s: no time for a round of knocks", where)
		f.Hints = []string{"give it more --timeout; other openings at the same host may be under way"}
	case unreachable(shut):
		f.Message = fmt.Sprintf("%s cannot be reached from here: %v", where, last(shut))
		f.Hints = []string{"see whether this machine is on a network"}
	case shut.Refused():
		f.Message = fmt.Sprintf("%s refuses, after %s", where, tried)
		f.Hints = []string{
			"the knocks may be out of date, or the service not running: refusals look the same",
			"another network on the way, or a neighbour behind the same address, may send packets of its own in between",
		}
	default:
		f.Message = fmt.Sprintf("%s does not answer, after %s", where, tried)
		f.Hints = []string{
			"the knocks may be out of date, or the host be off: silence looks the same",
			"a firewall between here and there may stop connections to such ports: try another network",
		}
	}
	return f
}

// unreachable tells whether no packet has left, the last time.
func unreachable(shut *knocker.OpenError) bool {
	err := last(shut)
	return errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EACCES)
}

func last(shut *knocker.OpenError) error { return shut.Tries[len(shut.Tries)-1].Err }

func brokenOff(err error) *failure {
	return &failure{Code: codeFailed, Message: fmt.Sprintf("the connection broke off: %v", err), err: err}
}
