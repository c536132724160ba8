package migrate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"postern/internal/document"
	"postern/internal/lazyregexp"
	"postern/internal/policy"
)

// A draft is a policy that is being made.
type draft struct {
	policy.Policy          // but for its doors and what it allows
	head          []string // what a reader should know first
	ifaceLine     int      // of the input
	allow         []allowed
	doors         []*door
	closings      []*closing // each of another door
}

// An allowed is an entry of allow.
type allowed struct {
	policy.Allow
	line int // of the input
}

// A door is one of the draft.
type door struct {
	policy.Door
	line    int     // of the input that it is read off
	section string  // of a knockd.conf that it is read off
	v6      bool    // these were rules for IPv6
	comment string  // about a choice that was made
	remarks remarks // if it comes to be in the policy
}

func newDraft(posture policy.Posture, head ...string) *draft {
	return &draft{Policy: *policy.New(posture), head: head}
}

func newDoor(line int, list *remarks) *door {
	return &door{line: line, remarks: remarks{lines: list.lines}, Door: policy.NewDoor("")}
}

// elsewhere is where in the draft a diagnostic points, which is of no use here.
var elsewhere = lazyregexp.New(` \((?:first on )?line \d+\)`)

// settle returns the text of the draft, without those of its parts that a policy
// refuses; these go to the list. It is empty if no door is left.
func (d *draft) settle(list *remarks) string {
	d.nameDoors()
	d.doors = accepted(d.doors, func(doors []*door) error { return d.check(doors, nil, nil) }, func(dr *door, why string) {
		what := "no door can be made of this"
		if dr.section != "" {
			what = "section [" + dr.section + "] is left out"
		}
		list.add(dr.line, "%s: %s", what, why)
	})
	if len(d.doors) == 0 {
		return ""
	}
	d.close(list)
	d.Interfaces = accepted(d.Interfaces, func(names []string) error { return d.check(d.doors, nil, names) }, func(_, why string) {
		list.add(d.ifaceLine, "it is left out: %s", why)
	})
	d.allow = accepted(d.allow, func(allow []allowed) error { return d.check(d.doors, allow, d.Interfaces) }, func(a allowed, why string) {
		list.add(a.line, "it cannot be in allow: %s", why)
	})
	for _, dr := range d.doors {
		list.join(&dr.remarks)
	}
	return d.text()
}

// close sets the sequences that close doors, and remarks on those that a policy refuses.
func (d *draft) close(list *remarks) {
	d.closings = slices.DeleteFunc(d.closings, func(c *closing) bool {
		if slices.Contains(d.doors, c.door) {
			return false
		}
		c.leftOut(list, c.line, "it closes what [%s] opens", c.opener.name)
		return true
	})
	closes := func(some []*closing) error {
		var doors []*door
		for _, dr := range d.doors {
			with := *dr
			for _, c := range some {
				switch {
				case c.door != dr:
				case with.Knock.Close != nil:
					return &policy.InvalidError{Diagnostics: []policy.Diagnostic{{Message: "a door has one such sequence"}}}
				default:
					with.Knock.Close = c.knocks
				}
			}
			doors = append(doors, &with)
		}
		return d.check(doors, nil, nil)
	}
	d.closings = accepted(d.closings, closes, func(c *closing, why string) {
		c.leftOut(list, c.line, "it closes what [%s] opens, and cannot: %s", c.opener.name, why)
	})
	for _, c := range d.closings {
		k, notes := &c.door.Knock, &c.door.remarks
		k.Close = c.knocks
		if t, is := c.keys["seq_timeout"]; is && c.door.seconds(t, knockdSequenceTime, policy.MaxStepTimeout) != k.StepTimeout {
			notes.add(t.line, "a door has one step_timeout, to open and to close it: %s", document.FormatDuration(k.StepTimeout))
		}
		for _, note := range c.notes {
			notes.add(c.start().line, "%s", note)
		}
		for _, key := range []string{"stop_command", "stop_command_6"} {
			if stop := c.keys[key]; stop.value != "" {
				notes.add(stop.line, "what closes a door does nothing later, and postern runs no commands")
			}
		}
		c.flags(notes)
	}
}

// accepted returns the parts with which a policy is valid; of each other one it
// says why it is not. It tries them all, then ever smaller portions.
func accepted[T any](parts []T, check func([]T) error, refuse func(T, string)) []T {
	var kept []T
	var try func([]T)
	try = func(parts []T) {
		with := slices.Concat(kept, parts)
		err := check(with)
		var invalid *policy.InvalidError
		switch half := len(parts) / 2; {
		case err == nil:
			kept = with
		case half > 0:
			try(parts[:half])
			try(parts[half:])
		case errors.As(err, &invalid):
			refuse(parts[0], elsewhere().ReplaceAllString(invalid.Diagnostics[0].Message, ""))
		}
	}
	if len(parts) > 0 {
		try(parts)
	}
	return kept
}

// with is the policy with these parts.
func (d *draft) with(doors []*door, allow []allowed, interfaces []string) *policy.Policy {
	p := d.Policy
	p.Interfaces = interfaces
	for _, dr := range doors {
		p.Doors = append(p.Doors, dr.Door)
	}
	for _, a := range allow {
		p.Allow = append(p.Allow, a.Allow)
	}
	return &p
}

// check reports what is wrong with a policy of these parts.
func (d *draft) check(doors []*door, allow []allowed, interfaces []string) error {
	_, err := policy.Parse("", []byte(policy.Format(d.with(doors, allow, interfaces))))
	return err
}

// text is the policy's, with comments.
func (d *draft) text() string {
	text := policy.Format(d.with(d.doors, d.allow, d.Interfaces))
	p, err := policy.Parse("", []byte(text))
	if err != nil {
		return ""
	}
	lines := strings.Split(text, "\n")
	for i := len(d.doors) - 1; i >= 0; i-- {
		if c := d.doors[i].comment; c != "" {
			lines = slices.Insert(lines, p.Doors[i].Pos.Line, "    # "+c)
		}
	}
	for i, line := range lines {
		switch strings.TrimSpace(line) {
		case "retransmits: reset":
			lines[i] += " # a knock that comes again starts the sequence over"
		case "forfeit: true":
			lines[i] += " # another packet before the connection loses the grant"
		case "allow:":
			lines[i] = "# What needs no knock.\n" + line
		}
		if strings.HasPrefix(line, "log:") && strings.Contains(line, "progress: true") {
			lines[i] = "# The log shows the knocks to everyone who reads it, as the old rules did.\n" + line
		}
	}
	return "# " + strings.Join(d.head, "\n# ") + "\n" + strings.Join(lines, "\n")
}

// nameDoors names every door, each differently.
func (d *draft) nameDoors() {
	taken := map[string]bool{}
	for _, dr := range d.doors {
		if dr.Name == "" {
			dr.Name = doorName(dr.Services)
		}
		base := dr.Name
		for n := 2; taken[dr.Name]; n++ {
			dr.Name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[dr.Name] = true
	}
}

// takes reports whether an entry lets a probe in.
func (e *allowed) takes(p probe) bool {
	if e.Interface != "" && e.Interface != p.at.iface || e.From.IsValid() && e.From.Bits() > 0 && !holdsNetwork(e.From, p.at.from) {
		return false
	}
	return e.Service == policy.Service{} || e.Service.Covers(p.port)
}

func holdsNetwork(a, b netip.Prefix) bool {
	return b.IsValid() && a.Bits() <= b.Bits() && a.Contains(b.Addr())
}

// allows reports whether an entry of allow lets a probe in.
func (d *draft) allows(p probe, v6 bool) bool {
	return slices.ContainsFunc(d.allow, func(e allowed) bool {
		return (!e.From.IsValid() || e.From.Addr().Is6() == v6) && e.takes(p)
	})
}

// letsIn reports whether the policy lets a probe in without a knock.
func (d *draft) letsIn(p probe, v6 bool) bool {
	return d.allows(p, v6) || d.Posture == policy.Guard &&
		!slices.ContainsFunc(d.doors, func(dr *door) bool { return slices.Contains(dr.Services, p.port) })
}

// filters reports whether the policy is about what comes in at a place at all.
func (d *draft) filters(at place) bool {
	return len(d.Interfaces) == 0 || slices.Contains(d.Interfaces, at.iface)
}

// opens reports whether the policy opens a door to those who knock from a place.
func (d *draft) opens(dr *door, at place, v6 bool) bool {
	if dr.Address.IsValid() && dr.Address != at.to.Addr() {
		return false
	}
	if slices.ContainsFunc(dr.Knock.Sequence, func(p policy.Port) bool { return d.allows(probe{p, at}, v6) }) {
		return false // what is allowed is no knock
	}
	return len(dr.From) == 0 || slices.ContainsFunc(dr.From, func(p netip.Prefix) bool {
		return p.Addr().Is6() == v6 && (p.Bits() == 0 || holdsNetwork(p, at.from))
	})
}
