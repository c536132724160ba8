package preflight

import (
	"fmt"
	"slices"

	"postern/internal/host"
)

// bareInterfaces warns of interfaces that the policy leaves alone although it was
// meant for what comes in there.
func (f *facts) bareInterfaces() []Finding {
	var found []Finding
	for _, b := range bare(f.machine.Policy.Interfaces, f.interfaces, f.links) {
		found = append(found, Finding{
			Kind:     BareInterface,
			Severity: Warning,
			Message:  fmt.Sprintf("nothing is hidden from packets that come in through %s, which %s", b.name, b.why),
			Hints:    []string{fmt.Sprintf("add %s to the policy's interfaces, or leave interfaces out to hide everywhere", b.name)},
			Where:    Place{Interface: b.name},
		})
	}
	return found
}

// A bareInterface is one without rules.
type bareInterface struct{ name, why string }

// bare returns the links that the policy does not name, and from which packets for
// this host may come that it was meant for: they have a default route, or are stacked on
// a link that it names, or may be a named one under another name. (That packets do not
// arrive under the name of a port of a bridge is another finding.)
func bare(named, exist []string, links []host.Link) []bareInterface {
	if len(named) == 0 {
		return nil
	}
	byName := map[string]host.Link{}
	for _, l := range links {
		byName[l.Name] = l
	}
	missing := slices.IndexFunc(named, func(name string) bool { return len(exist) > 0 && !slices.Contains(exist, name) })
	var found []bareInterface
	for _, l := range links {
		on := stackedOn(l, named, byName)
		switch {
		case l.Master != "": // its packets arrive under that name
		case slices.Contains(named, l.Name):
		case l.DefaultRoute:
			found = append(found, bareInterface{l.Name, "has a default route, and which interfaces does not name"})
		case on != "":
			found = append(found, bareInterface{l.Name, fmt.Sprintf("is stacked on %s, and which interfaces does not name", on)})
		case missing >= 0 && l.Global && l.Parent == "":
			found = append(found, bareInterface{l.Name, fmt.Sprintf("may be %s under another name: interfaces names that, and it is not there", named[missing])})
		}
	}
	return found
}

// stackedOn returns the named link below a link; "" if there is none.
func stackedOn(l host.Link, named []string, byName map[string]host.Link) string {
	for range byName { // no stack is higher
		if l.Parent == "" {
			return ""
		}
		if slices.Contains(named, l.Parent) {
			return l.Parent
		}
		l = byName[l.Parent]
	}
	return ""
}
