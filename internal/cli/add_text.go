package cli

import (
	"errors"
	"fmt"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

const (
	shortAdd = "add a host to the hosts file, by its settings or by a link"
	longAdd  = `Saves a host in the hosts file, so that its name is enough to knock. Its settings
are in the flags, or in a LINK that was printed on the server; - reads the link
from standard input, so that the shell's history does not keep it. Flags override
what a link says. A link has knocks, or a key of this device's own.

With --force the flags change the saved host of that name and leave its other
settings as they are; --user "" removes a setting. A link with --force replaces
the old host. Where no host has the name, it is added.

With --keyring the key of a link is kept in the system's key store, of which the
file only says so; --force --keyring moves the key of a saved host there, and
--keyring=false moves it back.

The file holds knocks and keys, and only you can read it. Its comments and its
order stay as they are; an entry can also be written by hand:

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
  postern add --keyring - home <link.txt
  postern add postern://a.example/v2/name=ssh/knock=914,7061/check=hcBBsd/ home`
	flagForce   = "change the host of that name, or replace it by a link"
	flagKeyring = "keep the key in the key store of this desktop session, and not in the file"
	flagAddress = "where the host is: a name or an IP `ADDRESS`"
	flagClose   = "the `PORTS` to knock at to close the door again"
	flagKnock   = "the `PORTS` to knock at, as in 1234,2345:udp,icmp/echo"
	flagToken   = "the `PORT` that the tokens of a key go to, if the server's has changed"
	flagGap     = "the least `TIME` between two knocks"
	flagFamily  = "`4` to connect by IPv4 only, 6 by IPv6"
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
	sayNoKey        = "--keyring is for the key of a host, and this one has knocks"
	sayNoName       = "the name is empty: write one, as in \"postern add home\""
	hintExists      = "give the new one another name, or change the old one with --force"
	hintOtherName   = "save it under another name: \"postern add NAME LINK\""
	hintReplace     = "or replace the old one: --force"
	hintNoFamily    = "remove it with --family \"\""
	hintByHand      = "add it under \"hosts:\" by hand: "
	hintBusyHosts   = "try again"
)

func sayExists(e *hosts.ExistsError, path string) string {
	return fmt.Sprintf("host %q exists already, in %s:%d", e.Name, path, e.Line)
}

func sayUneditable(path string) string {
	return fmt.Sprintf("%s is valid, but written in a way that add cannot edit", document.QuotedPath(path))
}

func neither(arg string) error {
	if strings.Contains(arg, "=") { // a damaged link, perhaps, which is a secret
		return errors.New("this is neither a name nor a link, which begins with postern://")
	}
	return fmt.Errorf("%q is neither a name nor a link", arg)
}

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

func (s *session) sayAdded(n *newcomer, file *hosts.File, on hosts.IfExists) {
	path := document.QuotedPath(file.Path)
	switch {
	case n.from == fromEntry:
		s.Say("changed %q in %s", n.Name, path)
	case file.Find(n.Name) != nil:
		s.Say("replaced %q in %s", n.Name, path)
	case on == hosts.ReplaceIfExists:
		s.Say("added %q to %s: no host had that name", n.Name, path)
		if near := file.Nearest(n.Name); near != "" {
			s.Hint(fmt.Sprintf("if you meant %q, remove %q from the file again", near, n.Name))
		}
	default:
		s.Say("added %q to %s", n.Name, path)
	}
	s.Hint("connect with " + wayIn(&n.Host))
}

func wasExposed(path string) ui.Remark {
	return ui.Remark{Note: true, Message: fmt.Sprintf("other users could read %s, and the secrets in it; now only you can", document.QuotedPath(path))}
}

// wayIn is the verb to connect with: one that sees whether the door has opened, if
// there is one for such a service.
func wayIn(h *hosts.Host) string {
	switch {
	case h.Service.Protocol != policy.TCP:
		return fmt.Sprintf("\"postern knock %s\", and then the service's own client", h.Name)
	case h.Service.Number == 22 || h.User != "":
		return fmt.Sprintf("\"postern ssh %s\"", h.Name)
	}
	return fmt.Sprintf("\"postern forward %s 8080\", and any client at localhost:8080", h.Name)
}
