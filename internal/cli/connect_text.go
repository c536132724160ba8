package cli

import (
	"fmt"

	"postern/internal/client"
	"postern/internal/document"
	"postern/internal/hosts"
)

const (
	shortConnect = "connect through a door, to the service behind it"
	longConnect  = `Knocks at a saved host and connects, again and again until it is connected. Then
standard input goes to the service and standard output comes from there, until
the service ends the connection. ssh can use it as its ProxyCommand: for that,
see "postern ssh" and "postern ssh-config".

With --json the answer goes to standard error, as standard output is the
service's: one line when it is connected, with how many tries and how long it
took, or one with what went wrong.`
	exampleConnect = `  ssh -o ProxyCommand="postern connect home" home.example
  postern connect web <request`

	flagPatience = "how much `TIME` to give an opening, in place of what the hosts file says: 5s, or 5"
	flagQuiet    = "print errors only"
	flagBrief    = "print errors, and a line if the door stays shut for a second"
	flagPass     = "hand the connection over on standard output, and end: for ssh's ProxyUseFdpass"
)

func (s *session) sayOpened(o *client.Opened) {
	s.Say("%s is open, %s: %s", o.Host, o.Effort, o.Address)
}

// stillKnocking tells a person who waits what goes on.
func stillKnocking(name string, h *hosts.Host, seen client.Seen) string {
	so := "is not reached yet"
	switch {
	case seen.Tries == 0: // the name is looked up, or others have their turn
		return fmt.Sprintf("still waiting to knock at %s, for up to %s", name, document.FormatDuration(h.Timeout))
	case seen.Refused > 0:
		so = "refuses so far"
	case seen.Silent > 0:
		so = "does not answer yet"
	}
	return fmt.Sprintf("%s %s; still knocking, for up to %s", name, so, document.FormatDuration(h.Timeout))
}
