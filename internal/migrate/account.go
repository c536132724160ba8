package migrate

import (
	"fmt"
	"slices"
)

// withoutDoors remarks on the rules of a family that has no knocks, while the
// other has.
func (ld *loader) withoutDoors(w *walker) {
	family, other := families(w.set)
	var lines []int
	for _, c := range w.set.order {
		for _, r := range c.rules {
			if !r.explained && !ordinary(r.tests) {
				lines = append(lines, r.line)
			}
		}
	}
	if len(lines) == 0 { // the policy has doors even so
		lines = []int{w.set.chain("filter", "INPUT").line}
	}
	for _, line := range lines {
		ld.list.add(line, "the rules for %s have no knocks, and are not in the policy; it is made of those for %s, and holds for both", family, other)
	}
}

// openAnyway remarks on services that knocks are to open, and that get in
// without.
func (ld *loader) openAnyway(s *side) {
	reached := s.reached()
	for _, c := range s.set.order {
		for _, r := range c.rules {
			if !reached[c] || r.target != "ACCEPT" || !slices.ContainsFunc(r.tests, func(t test) bool {
				return t.kind == onRecent && !t.not && (t.recent.verb == "rcheck" || t.recent.verb == "update")
			}) {
				continue
			}
			for _, port := range s.ports[:s.others] {
				f := &flight{walker: s.walker, probe: probe{port: port}}
				out := s.send(f.probe, listed{})
				if !out.accepts || !slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onPort && f.holds(&t) }) ||
					slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onProtocol && !f.holds(&t) }) {
					continue
				}
				how := fmt.Sprintf("line %d lets it in", out.line())
				if out.by == nil && out.line() == 0 {
					how = fmt.Sprintf("no line sets the policy of %s, which accepts what its rules leave", out.chain)
				} else if out.by == nil {
					how = fmt.Sprintf("the policy of %s (line %d) accepts what its rules leave", out.chain, out.line())
				}
				ld.list.add(r.line, "%s gets in without a knock: %s", port, how)
				r.explained = true
			}
		}
	}
}

// account remarks on what is left: the rules that are in no entry and no door,
// and are not what Postern does by itself. Of a chain that is not its business
// it says so once.
func (ld *loader) account(w *walker) {
	reached := w.reached()
	for _, c := range w.set.order {
		var outside []int
		if c.builtin() && c.policy != "ACCEPT" && !(c.table == "filter" && c.name == "INPUT") && c.line > 0 {
			outside = append(outside, c.line)
		}
		for _, r := range c.rules {
			why := ""
			switch ours := reached[c] && !needed(c, r); {
			case ours && r.beyond() != "":
				why = r.beyond()
			case r.explained, reached[c] && ordinary(r.tests) && r.target != "LOG":
			case !reached[c]:
				outside = append(outside, r.line)
			default:
				why = r.unread(w, c)
			}
			if why != "" {
				ld.list.add(r.line, "%s", why)
			}
		}
		ld.list.several(outside, outsideOf(c))
	}
}

// outsideOf says why a chain is not the policy's business.
func outsideOf(c *chain) string {
	switch {
	case c.name == "OUTPUT" || c.name == "POSTROUTING":
		return "a policy is about what comes in: rules for what goes out stay in the other firewall"
	case c.name == "FORWARD":
		return "packets through this host are left alone, but for a door's: rules for them stay in the other firewall"
	case !c.builtin():
		return "no packet to this host gets into the chain " + c.name
	}
	return "the table " + c.table + " stays in the other firewall"
}

// beyond says what a rule looks at that no packet on paper can answer for, and no
// policy asks; empty: nothing. Such a rule has a remark, whatever became of it.
func (r *rule) beyond() string {
	for _, t := range r.tests {
		switch {
		case t.why != "":
			return t.why
		case t.kind == onSourcePort:
			return whySourcePort
		case t.kind == onRate && r.logs():
			return "a policy has no limit for what it logs: postern has one of its own"
		case t.kind == onRate && r.target == "ACCEPT":
			return "a policy has no limit for what it lets in"
		case t.kind == onRate, t.kind == onFlood, t.kind == onRecent && t.recent.hits > 1:
			return "a policy has no limit of how often; postern bounds first knocks by itself"
		}
	}
	return ""
}

func (r *rule) logs() bool { return slices.Contains([]string{"LOG", "NFLOG", "ULOG"}, r.target) }

// unread says why a rule that packets can meet is not in the policy; empty: it is.
func (r *rule) unread(w *walker, c *chain) string {
	has := func(match func(t test) bool) bool { return slices.ContainsFunc(r.tests, match) }
	ends := slices.Contains([]string{"ACCEPT", "DROP", "REJECT", "TARPIT", "RETURN", ""}, r.target)
	switch {
	case !r.passed && has(func(t test) bool { return t.kind == onOutput }):
		return "nothing that comes in has an outgoing interface yet"
	case !r.passed && w.work < 0:
		return "it was not looked at: these rules are too many to send a packet through for each"
	case !r.passed && len(r.tests) == 0 && ends && r.target != "ACCEPT" && r.target != "": // a last resort
	case !r.passed && has(func(t test) bool { return t.kind == onICMP && !isEcho(t.words[0]) }):
		return "a policy's icmp/echo is ping; what else of ICMP a host needs gets in by itself"
	case !r.passed:
		return "no new connection gets this far and passes its conditions"
	case r.target == "REDIRECT":
		return "it stays in the other firewall: a knock is judged before it"
	case r.target == "DNAT":
		return "where it leads is not one address and port"
	case !ends && !r.logs() && w.set.target(c, r) == nil:
		return "what " + short(r.target) + " does is not the policy's"
	}
	return ""
}
