package preflight

import (
	"fmt"

	"postern/internal/preflight/otherrules"
)

// openWhenAbsent notes other firewalls that accept a hidden port from everyone: only
// Postern's rules keep it shut.
func (f *facts) openWhenAbsent() []Finding {
	var found []Finding
	for _, o := range f.openings {
		a, missing := acceptanceOf(f.machine)
		var hints []string
		if missing {
			hints = append(hints, addMark)
		}
		about := otherrules.Obstacle{Table: o.Table, Chain: o.Chain, Manager: o.Manager, Ports: o.Ports, Marked: true}
		hints = append(hints, a.accept(about)...)
		if o.Manager != "firewalld" { // whose port stays accepted, and what is not marked is dropped
			hints = append(hints, fmt.Sprintf("then take back what accepts %s from everyone", portList(about)))
		}
		found = append(found, Finding{
			Kind:     OpenWhenAbsent,
			Severity: Note,
			Message: fmt.Sprintf("table %s, chain %s accepts %s from everyone: nothing hides that whenever postern's rules are absent",
				o.Table, o.Chain, portList(about)),
			Hints: hints,
			Where: Place{Table: o.Table, Chain: o.Chain},
		})
	}
	return found
}
