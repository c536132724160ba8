package cli

import (
	"fmt"
	"runtime"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
)

const (
	shortForward = "listen here, and knock for each connection that comes in"
	longForward  = `Listens on this machine, for a client that cannot knock: a browser, a database
shell, a viewer of desktops. For each connection that is made here it knocks at a
host of the hosts file and connects to the service behind the door.

LOCAL is where to listen and, after that, where to connect to:

  8080                    localhost, port 8080; 0 is any port that is free
  192.0.2.5:8080          that address of this machine's; * is all of them
  8080::443               port 443 of the host, where that is not the service's
  8080:inner.example:443  port 443 of another host that the same door opens
  [::1]:8080:[2001:db8::7]:443

It is written as for "ssh -L", but there is no tunnel: the connection goes from
here to that host itself, and is as well encrypted as its client makes it.

Connections knock one after another, or they would spoil each other's knocks. One
whose door stays shut is reset. The rest goes on until Ctrl-C.

With --json each event is a line on standard output: "listening" with its
addresses and where they lead to, "opened", "shut" with the error, "gone" if the
client broke off before the door was open, "closed" with the bytes sent and
received (and the error, if it broke off). After Ctrl-C the last line is "ended".`
	exampleForward = `  postern forward web 8080        # then http://localhost:8080
  postern forward office 3389::3389 4430:wiki.example:443`

	sayNobodyToForward = "which host? \"postern hosts\" lists them"
	sayNoLocal         = "where to listen? a port is enough, as in \"postern forward home 8080\""
	sayLocals          = "write PORT, ADDRESS:PORT, PORT:HOST:PORT or ADDRESS:PORT:HOST:PORT, and IPv6 addresses in brackets"
	sayNoPort          = "is no port"
	sayNoAddress       = "is no address of this machine's"
	sayNotUnderstood   = "is not understood"
	hintPrivileged     = "ports below 1024 are for root: take one above"
	hintReserved       = "the system keeps it: \"netsh interface ipv4 show excludedportrange tcp\" lists such ports"
	hintTaken          = "another program listens there: take another port, or 0 for any that is free"
	hintHere           = "it must be an address of this machine's"
)

func wrongLocal(text, part, why string) error {
	where := ""
	if part != text {
		where = fmt.Sprintf("%q: ", text)
	}
	return fmt.Errorf("%s%q %s: %s", where, part, why, sayLocals)
}

func loopbackThere(text, host string) error {
	return fmt.Errorf("%q leads to this machine, as there is no tunnel: to connect to the host that is knocked at, leave %q out", text, host)
}

// givenTwice is about two LOCALs at one place.
func givenTwice(one, other string) error {
	if one == other {
		return fmt.Errorf("%q is given twice", one)
	}
	return fmt.Errorf("%q and %q are to listen at one place", one, other)
}

// hintNameFirst is for "forward 8080 home".
func hintNameFirst(local, name string) string {
	return fmt.Sprintf("the host comes first: \"postern forward %s %s\"", name, local)
}

func (s *session) sayListening(h *hosts.Host, l *local, at []string) {
	s.Say("listening on %s, for %s of %s", ui.List(at), l.to.port, l.to.at(h))
}

// exposedListener is about a listener that others can reach.
func exposedListener(h *hosts.Host, at []string) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("whoever can reach %s comes in at %s by the knocks of this machine", ui.List(at), h.Name),
		Hints:   []string{"a port alone listens for this machine only"},
	}
}

func (s *session) sayThrough(from string, o *opened) {
	s.Say("%s: connected to %s, %s", from, o.Address, howOpened(o))
}

func (s *session) sayStillShut(from string, h *hosts.Host, to destination, seen sight) {
	s.Say("%s: %s", from, knockingOn(h, to, seen))
}

func (s *session) sayGone(from string) {
	s.Say("%s: gone, before the door was open", from)
}

// about is a failure that concerns one connection of several.
func about(from string, f *ui.Failure) *ui.Failure {
	g := *f
	g.Message = from + ": " + f.Message
	return &g
}

// notListening explains why an address cannot be listened on.
func notListening(address string, err error) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("cannot listen on %s: %s", address, cause(err)), Err: err}
	switch {
	case forbidden(err) && runtime.GOOS == "windows":
		f.Hints = []string{hintReserved}
	case forbidden(err):
		f.Code, f.Hints = ui.CodePrivilege, []string{hintPrivileged}
	case taken(err):
		f.Hints = []string{hintTaken}
	case notOurs(err):
		f.Hints = []string{hintHere}
	}
	return f
}

func noLoopback() *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "this machine has no loopback address to listen on", Hints: []string{"name another one, as in 192.0.2.5:8080"}}
}
