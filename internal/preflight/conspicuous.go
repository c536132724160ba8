package preflight

import (
	"fmt"
	"slices"

	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

// conspicuous warns of rule sets that answer the ports beside the hidden ones in
// another way than these are answered, by which a scan can spot them. (In closed
// all ports are answered alike, before others' rules. A guard whose cover is drop
// is known to show where unused ports answer.)
func (f *facts) conspicuous() []Finding {
	p := f.machine.Policy
	if p.Posture != policy.Guard || !p.Cover.Answers() {
		return nil
	}
	var found []Finding
	type chain struct{ table, chain string }
	said := map[chain]bool{}
	for _, r := range f.refusals {
		at := chain{r.Table, r.Chain}
		if r.Table == "" || hides(p.Cover, r) || said[at] {
			continue
		}
		said[at] = true
		ip := "IPv4"
		if r.IPv6 {
			ip = "IPv6"
		}
		found = append(found, Finding{
			Kind:     AnswersDiffer,
			Severity: Warning,
			Message: fmt.Sprintf("table %s, chain %s %s what it does not list (%s over %s): "+
				"hidden ports %s while others %s, so a scan can spot them", r.Table, r.Chain, does(r.Answer), r.Protocol, ip,
				behave(p.Cover.Answer(r.Protocol), r.Answer), behave(r.Answer, p.Cover.Answer(r.Protocol))),
			Hints: []string{coverHint(p, f.refusals)},
			Where: Place{Table: r.Table, Chain: r.Chain},
		})
	}
	return found
}

// hides reports whether a cover answers as other ports are answered.
func hides(c policy.Cover, r otherrules.Refusal) bool { return c.Answer(r.Protocol) == r.Answer }

// coverHint names the cover that hides from all, if there is one.
func coverHint(p *policy.Policy, refusals []otherrules.Refusal) string {
	for _, c := range policy.Covers() {
		if !slices.ContainsFunc(refusals, func(r otherrules.Refusal) bool { return !hides(c, r) }) {
			if p.Cover != policy.New(p.Posture).Cover {
				return fmt.Sprintf("write \"cover: %s\" instead of \"cover: %s\"", c, p.Cover)
			}
			return fmt.Sprintf("add \"cover: %s\" at the top level", c)
		}
	}
	return "no cover hides them: have the other rules drop all else, over IPv4 and IPv6, and write \"cover: drop\" at the top level"
}

// does says what a chain does to a packet.
func does(a policy.Answer) string {
	if a == policy.NoAnswer {
		return "drops"
	}
	return fmt.Sprintf("answers with %s to", a)
}

// behave says what a scan sees of ports with one answer, beside ports with another.
func behave(a, beside policy.Answer) string {
	switch {
	case a == policy.NoAnswer:
		return "stay silent"
	case beside == policy.NoAnswer:
		return "refuse"
	}
	return fmt.Sprintf("answer with %s", a)
}
