package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/client/knocker"
	"postern/internal/policy"
)

const (
	shortKnock = "knock at a host's door"
	longKnock  = `Sends one knock to each port, in the given order: TCP unless a port is written
PORT:udp, or icmp/echo for a ping. With a NAME alone, what to knock at is in
the hosts file: see "postern add". No answer is waited for; none would tell
whether the door opened. Connect right after it, over the same address.

What is written for knockd's client works as it is: -u, -d, -v, -4 and -6.`
	exampleKnock = `  postern knock home && ssh ann@home.example
  postern knock server.example 47011 5120 31877 && ssh server.example
  postern knock -4 -d 200 server.example 20914 7061:udp 41230`
	flagIPv4  = "use the host's IPv4 address"
	flagIPv6  = "use the host's IPv6 address"
	flagDelay = "the `TIME` between two knocks, in milliseconds if it is a number alone; of a host by name, its gap if it has one"
)

const (
	sayNobodyToKnock = "which host?"
	sayBothFamilies  = "-4 and -6 exclude each other"
	sayBothVoices    = "--quiet and --verbose exclude each other"
	sayNoUDP         = "--udp is about ports on the command line, and there are none"
	sayNoDelay       = "give milliseconds, or a time such as 50ms or 1.5s"
	sayNegativeDelay = "a delay cannot be negative"
	hintPorts        = "to knock at a host that is not in the file, write its ports after it"
	hintTurn         = "openings at one address take turns, so as not to spoil each other's knocks: try again soon"

	flagUDP     = "knock by UDP, where a port is a number alone"
	flagVerbose = "say each knock: knockd's client has this flag, and here it is done anyway"
)

// hintAlone is for ports after a name of the hosts file.
func hintAlone(name string) string {
	return fmt.Sprintf("\"postern knock %s\" alone knocks as the hosts file says", name)
}

func (s *session) sayKnock(n, of int, p policy.Port, to netip.Addr) {
	s.Say("knock %d of %d: %s of %s", n, of, p, to)
}

func (s *session) sayKnocked(k knocking, to netip.Addr, took time.Duration) {
	now := "connect now"
	if k.host != to.String() {
		now += fmt.Sprintf(", to %s", to)
	}
	s.Say("knocked, in %s; %s", brief(took), now)
	if k.entry != nil && k.entry.Service.Protocol == policy.TCP {
		s.Hint(fmt.Sprintf("\"postern connect %s\" does both, and sees whether it opens", k.entry.Name))
	}
}

// severalAddresses is about a host of which one address was taken.
func severalAddresses(host string, all []netip.Addr) ui.Remark {
	others := make([]string, len(all)-1)
	for i, a := range all[1:] {
		others[i] = a.String()
	}
	return ui.Remark{Note: true, Message: fmt.Sprintf("%s is also at %s: only %s is knocked at", host, ui.List(others), all[0])}
}

// notSent explains why knocks have not gone out.
func notSent(to netip.Addr, err error) error {
	if _, ok := errors.AsType[*knocker.PingError](err); ok || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		f := noTurn(to.String())
		f.Hints = []string{hintTurn}
		return f
	}
	return &ui.Failure{Code: ui.CodeFailed, Message: err.Error(), Hints: []string{unsentHint(to, err)}, Err: err}
}
