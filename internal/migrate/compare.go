package migrate

import (
	"slices"
	"strings"

	"postern/internal/policy"
)

// differences gathers where the policy and the rules part, by line and reason,
// each with all that it is about.
type differences struct {
	left  *leftovers
	order []difference
	about map[difference][]string
}

// A difference is what one line makes. The reason has a %s for what it is about.
type difference struct {
	line int
	why  string
}

func newDifferences(left *leftovers) *differences {
	return &differences{left: left, about: map[difference][]string{}}
}

func (d *differences) add(line int, why, what string) {
	at := difference{line, why}
	if d.about[at] == nil {
		d.order = append(d.order, at)
	}
	if !slices.Contains(d.about[at], what) {
		d.about[at] = append(d.about[at], what)
	}
}

func (d *differences) list() {
	for _, at := range d.order {
		d.left.add(at.line, "%s", strings.Replace(at.why, "%s", several(d.about[at]), 1))
	}
}

// several is "a", "a, b" or "a, b, c and more".
func several(all []string) string {
	const most = 3
	if len(all) > most {
		return strings.Join(all[:most], ", ") + " and more"
	}
	return strings.Join(all, ", ")
}

// compare lists where the policy and the rules part: before any knock, then at
// the doors.
func (ld *loader) compare(d *draft, s *side) {
	ld.strangers(d, s)
	ld.replay(d, s)
	if s.work < 0 {
		ld.left.add(s.doors[0].line, "the rules are too many to try every door from everywhere that they name: "+
			"see for yourself whom they keep out, or cut out those that have nothing to do with knocks and import the rest")
	}
}

// strangers lists who gets another answer by the policy than by the rules
// without a knock, at the line that decided.
func (ld *loader) strangers(d *draft, s *side) {
	differs := newDifferences(ld.left)
	for _, at := range s.all {
		guarded := d.guards(at)
		for i, port := range s.ports {
			p := probe{port, at}
			out := s.send(p, tags{})
			if s.work < 0 {
				return
			}
			what := port.String()
			if i >= s.strays {
				what = "all of " + port.Protocol.String()
			}
			allows := d.takes(p, s.set.v6) || !guarded
			line, why := lineOf(&out), ""
			switch {
			case out.verdict == accepted && out.forward.IsValid():
				line, why = out.sentBy.line, "it forwards %s to everyone, without a knock: keep it in the other firewall"
			case out.verdict == accepted && !allows && (out.by == nil || !out.by.marked):
				why = "it lets in %s without a knock, and no entry of allow can say for whom"
			case out.verdict != accepted && allows && line > 0 && d.posture == policy.Closed:
				why = "it refuses some whom the policy lets in (%s): a policy has no list of whom to refuse"
			case out.verdict != accepted && allows && line > 0 && port.Protocol != policy.ICMP:
				why = "it refuses %s, and posture guard leaves all but the doors alone: keep it in the other firewall"
			case at.named() > 0 && out.verdict == accepted:
				continue
			}
			if out.mark(); why != "" {
				differs.add(line, why, what)
			}
		}
	}
	differs.list()
}

// allows tells whether an entry of allow lets a probe in.
func (d *draft) allows(p probe, v6 bool) bool {
	for i := range d.allow {
		e := &d.allow[i]
		if (!e.from.IsValid() || e.from.Addr().Is6() == v6) && e.takes(p) {
			return true
		}
	}
	return false
}

// takes tells whether the policy lets a probe in without a knock.
func (d *draft) takes(p probe, v6 bool) bool {
	return d.allows(p, v6) || d.posture == policy.Guard &&
		!slices.ContainsFunc(d.doors, func(dr *door) bool { return slices.Contains(dr.Services, p.port) })
}
