package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

const (
	shortShare = "print a link for a client to import"
	longShare  = `Prints a link with all that a client needs to connect through a door, for
"postern add". On a terminal it is drawn as a QR code, too. Without --host the
link leads to the door's address, or to this host's public one if it has exactly
one.

The link holds the knocks. Anyone who has it can knock, so give it only to those
who may, over a channel that others cannot read. It opens the door; it does not
replace the authentication of the service behind it.`
	exampleShare = `  postern share ssh --host home.example
  ssh home.example sudo postern share --host home.example | postern add - home`
	flagHost    = "how clients reach the door: a name or an `ADDRESS`"
	flagService = "the `PORT` of the service, where the door has several"
	flagName    = "what the client calls the host, if not by the door's `NAME`"
	flagQR      = "draw the link as a QR code, on standard error; the default is to draw it on a terminal that has room for it"
)

const (
	hintNameDoor = "name one: "
	hintOthers   = "use an address that others can reach"
	sayEmptyName = "--name: it is empty: write one, as in --name home"
	hintHost     = "say how clients reach it, as in --host server.example"
)

// sayShared comes after a link, which holds a secret.
func (s *session) sayShared(h *hosts.Host) {
	s.Say("the link holds the knocks: anyone who has it can knock")
	s.Say("it opens the door, and does not replace the service's authentication")
}

// sayFiled says what the client does with it, which names the host itself.
func (s *session) sayFiled(h hosts.Host) {
	h.Name = "NAME"
	s.Hint("save it on the client: \"postern add NAME LINK\", with any name")
	s.Hint("then connect with " + wayIn(&h))
}

// sayQR draws a QR code. Phones read dark on light, so the terminal's own colours
// are put aside where it has any.
func (s *session) sayQR(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(s.Err, ui.Colour(s.ErrTTY, ui.WhiteOnBlack, line))
	}
}

// sayNoQR is about a terminal that shows less than this.
func (s *session) sayNoQR(columns, rows int, again string) {
	s.Say("a QR code of this link needs a terminal of %d columns and %d rows: enlarge it, or draw it anyway: %s", columns, rows, again)
}

func (s *session) sayPublic(a netip.Addr) {
	s.Say("the link leads to %s, this host's only public address: --host says otherwise", a)
}

func alone(host string) string {
	return fmt.Sprintf("write %s alone: the port is the service's, and the client knows the user", document.Short(host))
}

func serviceNames(d *policy.Door) string {
	names := make([]string, len(d.Services))
	for i, s := range d.Services {
		names[i] = s.String()
	}
	return ui.List(names)
}

func whichService(d *policy.Door) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("door %q has several services", d.Name),
		Hints: []string{"pick one with --service: " + serviceNames(d)}}
}

func noKnocks(d *policy.Door) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("door %q has no knocks to share: only keys open it", d.Name),
		Hints: []string{"\"postern user add\" makes one, and \"postern user show\" prints its link"}}
}

func noSuchService(d *policy.Door, s policy.Port) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("door %q does not open %s", d.Name, s),
		Hints: []string{"it opens " + serviceNames(d)}}
}

func whichAddress(public []netip.Addr) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: "this host has no public address that the door is at", Hints: []string{hintHost}}
	if len(public) > 0 {
		names := make([]string, len(public))
		for i, a := range public {
			names[i] = a.String()
		}
		f.Message = "this host has several public addresses: " + ui.List(names)
	}
	return f
}

func notServed(d *policy.Door, a netip.Addr) *ui.Failure {
	at := []string{}
	if d.Address.IsValid() {
		at = append(at, "its address is "+d.Address.String())
	}
	if d.Forward.IsValid() {
		at = append(at, "it forwards to "+d.Forward.String())
	}
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("door %q cannot be reached by %s: %s", d.Name, a, strings.Join(at, ", and ")),
		Hints: []string{"name an address of the same family"}}
}
