package cli

import (
	"fmt"
	"net/netip"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/policy"
)

const (
	shortKnock = "knock at a host's door"
	longKnock  = `Sends one knock to each port, in the given order: by TCP, by UDP if it is written
PORT:udp, or a ping if it is icmp/echo. With a NAME alone, the ports are those
of the saved host: see "postern add"; one that has a key is sent a token
instead. It waits for no answer, as none would show whether the door
opened. Connect right after it, to the same address.

The flags of knockd's client work: -u, -d, -v, -4 and -6.`
	exampleKnock = `  postern knock home && ssh ann@home.example
  postern knock server.example 47011 5120 31877 && ssh server.example
  postern knock -4 -d 200 server.example 20914 7061:udp 41230`
	flagIPv4  = "use the host's IPv4 address"
	flagIPv6  = "use the host's IPv6 address"
	flagDelay = "the `TIME` between two knocks, in milliseconds if it is a number alone; for a saved host its gap, if it has one"
)

const (
	sayNobodyToKnock = "which host?"
	sayBothFamilies  = "-4 and -6 exclude each other"
	sayBothVoices    = "--quiet and --verbose exclude each other"
	sayNoUDP         = "--udp is for ports on the command line, and there are none"
	sayLateKnocks    = "--delay %s is not less than step_timeout %s of %s: the door would forget every knock before the next"
	hintPorts        = "to knock at a host that is not in the file, write its ports after it"

	flagUDP     = "knock by UDP, where a port is a number alone"
	flagVerbose = "print each knock; this is the default, the flag is for scripts that were written for knockd's client"
)

// hintAlone is for ports after a name of the hosts file.
func hintAlone(name string) string {
	return fmt.Sprintf("\"postern knock %s\" alone knocks at the saved host", name)
}

func (s *session) sayKnock(k knocking, n int, p policy.Port, to netip.Addr) {
	what := fmt.Sprintf("%s of %s", p, to)
	if k.saved != nil { // whose knocks are a secret
		what = to.String()
	}
	s.Say("knock %d of %d: %s", n, len(k.ports), what)
}

func (s *session) sayKnocked(k knocking, to netip.Addr, took time.Duration) {
	now := "connect now"
	if k.host != to.String() {
		now += fmt.Sprintf(", to %s", to)
	}
	what := "knocked"
	if k.saved != nil && k.saved.Key != nil {
		what = "sent a token"
	}
	s.Say("%s, in %s; %s", what, max(took.Round(time.Millisecond), time.Millisecond), now)
	if k.saved != nil && k.saved.Service.Protocol == policy.TCP {
		s.Hint(fmt.Sprintf("\"postern connect %s\" does both, and tries again if it does not open", k.saved.Name))
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
