package cli

import (
	"fmt"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
)

const (
	shortForward = "listen here, and knock for each connection that comes in"
	longForward  = `Listens on this machine, for programs that cannot knock: a browser, a database
shell, a remote desktop viewer. For each connection made here it knocks at a
saved host and connects to the service behind the door.

LOCAL is where to listen and, after that, where to connect to:

  8080                    localhost, port 8080; 0 is any port that is free
  192.0.2.5:8080          that address of this machine; * is all of them
  8080::443               port 443 of the host, if that is not its service
  8080:inner.example:443  port 443 of another host that the same door opens
  [::1]:8080:[2001:db8::7]:443

The syntax is that of "ssh -L", but there is no tunnel: the connection goes from
here to that host directly, and is encrypted only if its client encrypts it.

Connections knock one after another, or they would spoil each other's knocks;
where the host has a key, all at once. A connection whose door stays shut is
reset. The others go on until Ctrl-C.

With --json each event is a line on standard output: "listening" with its
addresses and where they lead to, "opened", "shut" with the error, "gone" if the
client closed it before the door was open, "closed" with the bytes sent and
received (and the error, if it broke off). After Ctrl-C the last line is "ended".`
	exampleForward = `  postern forward web 8080        # then http://localhost:8080
  postern forward office 3389::3389 4430:wiki.example:443`

	sayNoLocal = "where to listen? a port is enough, as in \"postern forward home 8080\""
)

// hintNameFirst is for "forward 8080 home".
func hintNameFirst(local, name string) string {
	return fmt.Sprintf("the host comes first: \"postern forward %s %s\"", name, local)
}

func (s *session) sayListening(h *hosts.Host, e client.Event) {
	s.Say("listening on %s, for %s", ui.List(e.Addresses), e.To.String(h))
}

// exposedListener is about a listener that others can reach.
func exposedListener(h *hosts.Host, at []string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("anyone who can reach %s connects through the door of %s, as this machine knocks for them", ui.List(at), h.Name),
		Hints:   []string{"a port alone listens for this machine only"},
	}
}

func (s *session) sayConnected(e client.Event) {
	s.Say("%s: connected to %s, %s", e.From, e.Opened.Address, e.Opened.Effort)
}

func (s *session) sayGone(from string) {
	s.Say("%s: closed by its client before the door was open", from)
}

// about is a failure that concerns one connection of several.
func about(from string, f *ui.Failure) *ui.Failure {
	g := *f
	g.Message = from + ": " + f.Message
	return &g
}
