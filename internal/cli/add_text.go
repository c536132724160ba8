package cli

import (
	"fmt"

	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

const (
	shortAdd = "add a host to the hosts file, by its settings or by a link"
	longAdd  = `Writes an entry into the hosts file, so that a name is enough to knock. What to
write is in the flags, or in a LINK that "postern share" printed on the server;
the link - is read from standard input, where no history of commands keeps it.
Flags change what a link says. With --force they change the host of that name, and
leave the rest of it as it is; --user "", and likewise others, takes a setting out. A
link with --force takes the whole place of the old one.

The file holds the knocks, and is readable by you alone. Its comments and the
order in it stay as they are; an entry can as well be written by hand:

  version: 1
  hosts:
    home:
      address: home.example
      port: 22                # of the service; udp/51820 is a UDP one
      knock: [20914, udp/7061, 41230]
      step_timeout: 3s        # the door's
      user: ann               # to log in as, over ssh`
	exampleAdd = `  postern add home --address home.example --knock 20914,7061:udp,41230
  postern add - <link.txt
  postern add --force home --port 2222
  postern add postern://home.example:22/v1/name=ssh/knock=20914,41230/ home`
	flagForce   = "change the host of that name, or replace it by a link"
	flagAddress = "where the host is: a name or an IP `ADDRESS`"
	flagKnock   = "the `PORTS` to knock at, as in 1234,2345:udp,icmp/echo"
	flagGap     = "the least `TIME` between two knocks"
	flagFamily  = "`4` to come by IPv4 only, 6 by IPv6"
	flagUser    = "the `USER` to log in as, over ssh"
)

// The settings that have a default.
var (
	flagPort        = fmt.Sprintf("the service's `PORT`, tcp unless written 51820:udp; %d if left out", hosts.DefaultPort)
	flagStepTimeout = fmt.Sprintf("the door's step_timeout, the longest `TIME` between two knocks; %s if left out", document.FormatDuration(policy.DefaultStepTimeout))
	flagTimeout     = fmt.Sprintf("how much `TIME` to give an opening; %s if left out", document.FormatDuration(hosts.DefaultTimeout))
)

const (
	sayNothingToAdd = "which host, or which link?"
	hintNewerLink   = "update postern here, or ask for a link from an older one"
	sayNoName       = "the name is empty: write one, as in \"postern add home\""
	hintExists      = "give the new one another name, or change the old one with --force"
	hintOtherName   = "file it under another name: \"postern add NAME LINK\""
	hintReplace     = "or put it in the old one's place: --force"
	hintNoFamily    = "take it out with --family \"\""
	hintByHand      = "put it under \"hosts:\" by hand: "
	hintBusyHosts   = "try again"
)

func sayExists(e *hosts.ExistsError, path string) string {
	return fmt.Sprintf("there is a host %q already, in %s:%d", e.Name, path, e.Line)
}

func sayUneditable(path string) string {
	return fmt.Sprintf("%q is valid, but not written in a way that an entry can be put into", path)
}

func neither(arg string) error { return fmt.Errorf("%q is neither a name nor a link", arg) }

// inFlags says how to write what does not belong to an address.
func inFlags(p hosts.Destination) string {
	text := "write --address " + document.Short(p.Host)
	if p.User != "" {
		text += " --user " + document.Short(p.User)
	}
	if p.Port != "" {
		text += " --port " + document.Short(p.Port)
	}
	return text
}

func (s *session) sayAdded(n *newcomer, path string, replaced bool) {
	done := "added"
	switch {
	case n.from == fromEntry:
		done = "changed"
	case replaced:
		done = "replaced"
	}
	s.Say("%s %q in %q", done, n.Name, path)
	s.Hint("come in with " + wayIn(&n.Host))
}

// wayIn is the verb to come in by: one that sees whether the door has opened, if there
// is any for such a service.
func wayIn(h *hosts.Host) string {
	switch {
	case h.Service.Protocol != policy.TCP:
		return fmt.Sprintf("\"postern knock %s\", and then the service's own client", h.Name)
	case h.Service.Number == 22 || h.User != "":
		return fmt.Sprintf("\"postern ssh %s\"", h.Name)
	}
	return fmt.Sprintf("\"postern forward %s 8080\", and any client at localhost:8080", h.Name)
}
