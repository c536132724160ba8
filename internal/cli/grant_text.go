package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/document"
)

const (
	shortGrant = "let an address through a door, without a knock"
	longGrant  = `Gives an address what it would get for the door's knock: it may connect to the
services of DOOR for the door's open_for, or as long as --for says; once, or any
number of times, as "admit" says. The rules must be loaded. The door's "from"
holds here as well, and everyone whom the policy takes for the same source gets
the grant. A knock at this door later begins a new grant in its place.

"postern status" lists grants, and "postern revoke" takes them away. So do a
reboot and "postern down".`
	exampleGrant = `  postern grant ssh 198.51.100.7
  postern grant web 2001:db8::7 --for 10m`
	flagFor = "how long the grant lasts, such as 90s or 10m; the door's open_for if this is missing"
)

var errDoorAndAddress = errors.New("name a door and an address")

func notAddress(text string) error {
	if _, err := netip.ParsePrefix(text); err == nil {
		return fmt.Errorf("%q is a network, and a grant is for one address", text)
	}
	return fmt.Errorf("%q is no IP address", text)
}

func notClient(text string) error {
	return fmt.Errorf("no client has the address %s", text)
}

func (s *session) sayGranted(g granted) {
	who := g.Address
	if !strings.HasPrefix(g.Source, g.Address+"/") || !strings.HasSuffix(g.Source, "/32") && !strings.HasSuffix(g.Source, "/128") {
		who += ", and with it all of " + g.Source + ","
	}
	often := "once"
	if len(g.Services) > 1 {
		often = "once to each"
	}
	if g.Admit != "one" {
		often = "as often as they like"
	}
	s.Say("granted: for %s %s may connect to %s, %s", document.FormatDuration(g.lasts), who, ui.List(g.Services), often)
}

// failure returns a problem as the reason why a verb does nothing.
func (p problem) failure() *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: p.Message, Hints: p.Hints}
}

func nothingToGrant() *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "no rules are loaded, so no door is shut",
		Hints: []string{"\"postern up\" loads the policy"}}
}

func notByHand(backend string) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUnsupported, Message: fmt.Sprintf("the %s backend gives no grants by hand", backend)}
}

func unknownDoor(name string, names []string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("the loaded policy has no door %q", name)}
	if near := document.Nearest(name, names); near != "" {
		f.Hints = []string{"did you mean " + near + "?"}
	} else if len(names) <= 10 {
		f.Hints = []string{"it has " + ui.List(names)}
	}
	return f
}

func notOfFamily(d *automaton.Door, a netip.Addr) *ui.Failure {
	family := "IPv4"
	if a.Is4() {
		family = "IPv6"
	}
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("door %q is for %s alone, and %s is not of that", d.Name, family, a)}
}

func notFrom(d *automaton.Door, a netip.Addr) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("the door %q is not for %s, as its \"from\" says", d.Name, a),
		Hints: []string{"add the address to \"from\" and run \"postern up\""}}
}
