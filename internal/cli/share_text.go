package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/policy"
)

const (
	hintNameDoor = "name one: "
	hintOthers   = "give an address that others reach"
	sayEmptyName = "--name: it is empty: write one, as in --name home"
	hintHost     = "say how clients reach it, as in --host server.example"
)

// sayShared comes after a link, which holds a secret.
func (v *voice) sayShared(h *hosts.Host) {
	v.say("the link holds the knocks: give it to nobody else, by a way that nobody reads")
	v.say("it opens the door, and is no substitute for the service's authentication")
}

// sayFiled is what the other side does with it.
func (v *voice) sayFiled(h *hosts.Host) {
	v.hint("a client files it with \"postern add -\" or \"postern add LINK\"")
	v.hint("then it comes in with " + wayIn(h))
}

// sayQR draws a QR code. Phones read dark on light, so the terminal's own colours
// are put aside where it has any.
func (v *voice) sayQR(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(v.err, colour(v.errTTY, whiteOnBlack, line))
	}
}

func (v *voice) sayPublic(a netip.Addr) {
	v.say("the link leads to %s, this host's only public address: --host says otherwise", a)
}

func alone(host string) string {
	return fmt.Sprintf("write %s alone: the port is the service's, and the user the client's affair", document.Short(host))
}

func serviceNames(d *policy.Door) string {
	names := make([]string, len(d.Services))
	for i, s := range d.Services {
		names[i] = s.String()
	}
	return list(names)
}

func whichService(d *policy.Door) *failure {
	return &failure{Code: codeUsage, Message: fmt.Sprintf("door %q has several services", d.Name),
		Hints: []string{"pick one with --service: " + serviceNames(d)}}
}

func noSuchService(d *policy.Door, s policy.Port) *failure {
	return &failure{Code: codeUsage, Message: fmt.Sprintf("door %q does not open %s", d.Name, s),
		Hints: []string{"it opens " + serviceNames(d)}}
}

func whichAddress(public []netip.Addr) *failure {
	f := &failure{Code: codeFailed, Message: "this host has no public address that the door is at", Hints: []string{hintHost}}
	if len(public) > 0 {
		names := make([]string, len(public))
		for i, a := range public {
			names[i] = a.String()
		}
		f.Message = "this host has several public addresses: " + list(names)
	}
	return f
}

func notServed(d *policy.Door, a netip.Addr) *failure {
	at := []string{}
	if d.Address.IsValid() {
		at = append(at, "its address is "+d.Address.String())
	}
	if d.Forward.IsValid() {
		at = append(at, "it forwards to "+d.Forward.String())
	}
	return &failure{Code: codeUsage, Message: fmt.Sprintf("door %q cannot be reached by %s: %s", d.Name, a, strings.Join(at, ", and ")),
		Hints: []string{"name an address of the same family"}}
}
