// Package draft writes the first policy of a host: what to hide, behind knocks
// that are drawn at random, with a comment on each line for the person who will
// change it.
//
// Look asks the host what matters to it; all else is pure.
package draft

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/document"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// A Draft is what has been decided about a first policy.
type Draft struct {
	Posture  policy.Posture
	Backend  policy.Backend
	Door     string        // its name
	Services []policy.Port // what the door hides
	Sequence []policy.Port // its knocks
	Allow    []Listener    // what needs no knock
	Idle     bool          // no program listens on some of these
	Unclear  []policy.Port // may be in use by a service as well; see Host
	Cover    policy.Cover  // "" is the posture's default
	Beside   string        // another firewall, which blocks what it does not list; "" is none
}

// A Listener is a port that a program listens on.
type Listener struct {
	Port    policy.Port
	Program string // "" if it is not known
}

// Allowed returns the ports that need no knock.
func (d *Draft) Allowed() []policy.Port {
	var ports []policy.Port
	for _, l := range d.Allow {
		ports = append(ports, l.Port)
	}
	return ports
}

// Avoid reports whether a port should not be a knock of this policy on a host.
func (d *Draft) Avoid(h *Host) func(policy.Port) bool {
	return func(p policy.Port) bool {
		return h.Avoid(p) || slices.Contains(d.Services, p) || slices.Contains(d.Allowed(), p)
	}
}

// Besides fits the draft to how others' rules answer ports with nothing behind
// them: the hidden ones must answer alike, and what a door admits must be told from
// what they block.
func (d *Draft) Besides(refusals []otherrules.Refusal) {
	for _, r := range refusals {
		if r.Table != "" && d.Beside == "" {
			d.Beside = fmt.Sprintf("table %s, chain %s", r.Table, r.Chain)
		}
	}
	if d.Beside == "" {
		return
	}
	for _, c := range policy.Covers() {
		fits := true
		for _, r := range refusals {
			fits = fits && c.Answer(r.Protocol) == r.Answer
		}
		if fits && d.Cover == "" && c != d.Posture.DefaultCover() {
			d.Cover = c
		}
	}
}

// Text returns the policy.
func (d *Draft) Text() string {
	w := &writer{}
	w.say("Written by \"postern init\". Every key is in postern-policy(5), which is docs/policy.md. " +
		"The file contains the knocks: keep it readable by root alone.")
	w.line("version: 1")
	w.line("")
	if d.Posture == policy.Guard {
		w.say("guard hides the door's service and leaves all other ports as they are. closed would block them, except those that allow lists.")
	} else {
		w.say("closed blocks every port, except those that allow lists and doors open. guard would leave ports alone that the policy does not name.")
	}
	w.line("posture: %s", d.Posture)
	w.line("")
	w.say("What runs the policy: nftables or iptables rules. A reboot loads the same again.")
	w.line("backend: %s", d.Backend)
	w.line("")
	if d.Cover != "" {
		w.say(fmt.Sprintf("How hidden ports answer: as the others do, which %s blocks.", d.Beside))
		w.line("cover: %s", d.Cover)
		w.line("")
	}
	if d.Beside != "" {
		w.say(fmt.Sprintf("What the door admits carries this mark, by which another firewall (%s) can accept it and nothing else. "+
			"Without Postern's rules the service is then shut. \"postern doctor\" prints the lines for that firewall.", d.Beside))
		w.line("admitted:")
		w.line("  mark: %s", policy.SuggestedMark)
		w.line("")
	}
	d.writeAllow(w)
	w.line("doors:")
	w.line("  %s:", d.Door)
	w.indent = 4
	w.say("What the door hides.")
	var services []string
	for _, s := range d.Services {
		services = append(services, s.String())
	}
	if len(services) == 1 {
		w.line("service: %s", services[0])
	} else {
		w.line("service: [%s]", strings.Join(services, ", "))
	}
	w.line("knock:")
	w.indent = 6
	w.say("The ports to knock at, in this order. They were drawn at random, and nothing listens on them.")
	var knocks []string
	for _, k := range d.Sequence {
		knocks = append(knocks, fmt.Sprint(k.Number))
	}
	w.line("sequence: [%s]", strings.Join(knocks, ", "))
	w.say("The longest time from one knock to the next.")
	w.line("step_timeout: %s", document.FormatDuration(policy.DefaultStepTimeout))
	w.indent = 4
	w.say("The time to connect after the last knock.")
	w.line("open_for: %s", document.FormatDuration(policy.DefaultOpenFor))
	w.say("one: each knock admits one connection. any: as many as the time allows.")
	w.line("admit: %s", policy.DefaultAdmit)
	return w.String()
}

// writeAllow writes what needs no knock.
func (d *Draft) writeAllow(w *writer) {
	if len(d.Unclear) > 0 {
		var names []string
		for _, p := range d.Unclear {
			names = append(names, p.String())
		}
		w.say(fmt.Sprintf("In use here as well: %s. Whether by a service, or for a moment by a client of this host, is not known. List under allow what others connect to.", paragraph.List(names)))
		w.line("")
	}
	switch {
	case len(d.Allow) == 0 && d.Posture == policy.Guard:
		w.say("List here what clients use besides the door, as in \"allow: [{service: tcp/443}]\": a new connection to any other port resets its sender's knocks.")
		w.line("")
		return
	case len(d.Allow) == 0:
		w.say("List here what needs no knock, as in \"allow: [{service: tcp/443}]\". Nothing does now.")
		w.line("")
		return
	case d.Posture == policy.Guard && d.Idle:
		w.say("What clients use besides the door. It is open without being listed; but a new connection to a port that is not listed resets its sender's knocks.")
	case d.Idle:
		w.say("What needs no knock. Delete what nobody outside needs.")
	case d.Posture == policy.Guard:
		w.say("The ports that programs listen on here. They are open without being listed; but a new connection to a port that is not listed resets its sender's knocks.")
	default:
		w.say("What needs no knock: the ports that programs listen on here. Delete those that nobody outside needs.")
	}
	w.line("allow:")
	var rows [][]string
	for _, l := range d.Allow {
		row := []string{"  - service: " + l.Port.String()}
		if l.Program != "" {
			row = append(row, "# "+l.Program)
		}
		rows = append(rows, row)
	}
	for _, l := range paragraph.Columns(rows) {
		w.line("%s", l)
	}
	w.line("")
}

// A writer writes the lines of a policy.
type writer struct {
	strings.Builder
	indent int
}

const width = 80

func (w *writer) line(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != "" {
		w.WriteString(strings.Repeat(" ", w.indent) + text)
	}
	w.WriteString("\n")
}

// say writes a comment.
func (w *writer) say(text string) {
	for _, l := range paragraph.Wrap(text, width-w.indent-len("# ")) {
		w.line("# %s", l)
	}
}
