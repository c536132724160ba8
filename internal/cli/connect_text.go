package cli

import (
	"cmp"
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/document"
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

	flagPatience = "how much `TIME` to give an opening, in place of what the hosts file says: 5s, or 5"
	flagQuiet    = "say nothing but what went wrong"

	sayNobodyToReach = "which host? \"postern hosts\" lists them"
	sayNoTimeout     = "write 5s, or 5 for seconds"
	sayNoTime        = "it must be more than 0"
)

// hintLogin is for "root@home".
func hintLogin(host string) string {
	return fmt.Sprintf("did you mean %q? the user is ssh's affair", host)
}

// hintEntry is for an address in a name's place.
func hintEntry(address string) string {
	return fmt.Sprintf("\"postern add NAME --address %s --knock …\" files it under a name", address)
}

func (s *session) sayOpened(o *opened) {
	s.Say("%s is open, %s: %s", o.Host, howOpened(o), o.Address)
}

// sayKnockingOn is what to say when the first round was in vain.
func (s *session) sayKnockingOn(h *hosts.Host, to destination, seen sight) {
	s.Say("%s", knockingOn(h, to, seen))
}

func knockingOn(h *hosts.Host, to destination, seen sight) string {
	so := "cannot be reached yet"
	switch {
	case seen.refused > 0:
		so = "refuses so far"
	case seen.silent > 0:
		so = "does not answer yet"
	}
	return fmt.Sprintf("%s %s: knocking on, for up to %s", cmp.Or(to.host, h.Name), so, document.FormatDuration(h.Timeout))
}

func notWritten(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "cannot write to standard output: " + cause(err), Err: err}
}

func notTCP(h *hosts.Host) *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: fmt.Sprintf("%s is %s, and only TCP can be connected to", h.Name, h.Service),
		Hints: []string{fmt.Sprintf("\"postern knock %s\", and then its own client", h.Name)},
	}
}
