package migrate

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/policy"
)

// mark says that the rules which decided are accounted for.
func (o *outcome) mark() {
	if o.by != nil {
		o.by.marked = true
	}
	if o.sentBy != nil {
		o.sentBy.marked = true
	}
}

// unheeded lists the rules of a family that has no knocks.
func (ld *loader) unheeded(w *walker) {
	family, other := "IPv4", "IPv6"
	if w.set.v6 {
		family, other = other, family
	}
	why := fmt.Sprintf("the rules for %s have no knocks, and are not in the policy; it is made of those for %s, and holds for both", family, other)
	listed := false
	for _, c := range w.set.order {
		for _, r := range c.rules {
			if !r.marked && !ordinary(r.tests) {
				listed = true
				ld.left.add(r.line, "%s", why)
			}
		}
	}
	if !listed { // the policy has doors even so
		ld.left.add(w.set.chain("filter", "INPUT").line, "%s", why)
	}
}

// account lists what is left: the rules that are in no entry and no door, and
// are not what Postern does by itself.
func (ld *loader) account(w *walker) {
	reached := w.reached()
	for _, c := range w.set.order {
		if c.builtin() && c.policy != "ACCEPT" && !(c.table == "filter" && c.name == "INPUT") && c.line > 0 {
			ld.left.add(c.line, "%s", outside(c))
		}
		for _, r := range c.rules {
			why := ""
			if reached[c] && !silent(c, r) {
				why = r.beyond()
			}
			switch {
			case why != "":
				ld.left.add(r.line, "%s", why)
			case r.marked, reached[c] && ordinary(r.tests) && r.target != "LOG":
			case !reached[c]:
				ld.left.add(r.line, "%s", outside(c))
			default:
				if why := r.unread(w, c); why != "" {
					ld.left.add(r.line, "%s", why)
				}
			}
		}
	}
}

// outside says why a chain is not the policy's business.
func outside(c *chain) string {
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

const whySourcePort = "a policy does not look at the sender's port"

// beyond says what a rule looks at that no packet on paper can answer for, and
// no policy asks; an empty text: nothing. Such a rule is listed, whatever
// became of it.
func (r *rule) beyond() string {
	for _, t := range r.tests {
		switch {
		case t.kind == onUnknown, t.kind == onRate && t.why != "":
			return t.why
		case t.kind == onSourcePort:
			return whySourcePort
		case t.kind == onRate && logging(r):
			return "a policy has no limit for what it logs: postern has one of its own"
		case t.kind == onRate && r.target == "ACCEPT":
			return "a policy has no limit for what it lets in"
		case t.kind == onRate, t.kind == onFlood, t.kind == onRecent && t.recent.hits > 1:
			return "a policy has no limit of how often; postern bounds first knocks by itself"
		}
	}
	return ""
}

func logging(r *rule) bool { return r.target == "LOG" || r.target == "NFLOG" || r.target == "ULOG" }

// unread says why a rule that packets can meet is not in the policy; an empty
// text: it is.
func (r *rule) unread(w *walker, c *chain) string {
	for _, t := range r.tests {
		switch {
		case t.kind == onOutput && !r.passed:
			return "nothing that comes in has an outgoing interface yet"
		}
	}
	switch next := w.set.chains[chainName{c.table, r.target}]; {
	case !r.passed && w.work < 0:
		return "it was not looked at: these rules are too many to send a packet through for each"
	case !r.passed:
		if len(r.tests) == 0 && (r.target == "DROP" || r.target == "REJECT" || r.target == "RETURN") {
			return "" // a last resort
		}
		if slices.ContainsFunc(r.tests, func(t test) bool { return t.kind == onICMP && !isEcho(t.words[0]) }) {
			return "a policy's icmp/echo is ping; what else of ICMP a host needs gets in by itself"
		}
		return "no new connection gets this far and passes its conditions"
	case r.target == "REDIRECT":
		return "it stays in the other firewall: a knock is judged before it"
	case r.target == "DNAT":
		return "where it leads is not one address and port"
	case r.target == "ACCEPT", r.target == "DROP", r.target == "REJECT", r.target == "", r.target == "RETURN", next != nil,
		logging(r), r.target == "TARPIT":
		return ""
	}
	return "what " + r.target + " does is not the policy's"
}

// ordinary tells a rule for what Postern lets pass, or refuses, by itself:
// loopback, what is for other hosts, known connections, invalid packets, combinations of flags that open no connection.
func ordinary(tests []test) bool {
	for _, t := range tests {
		switch {
		case t.kind == onState && !t.not && !slices.Contains(t.words, "NEW"), t.kind == onState && t.not && slices.Contains(t.words, "NEW"):
			return true
		case t.kind == onInterface && t.name == "lo" && !t.not:
			return true
		case (t.kind == onSource || t.kind == onAddress) && !t.not && t.network.Addr().IsLoopback():
			return true
		case t.kind == onType && t.not && slices.Contains(t.words, "LOCAL"):
			return true
		case t.kind == onFlags && (syn&t.mask == t.flags) == t.not:
			return true
		}
	}
	return false
}

// silent tells a rule for ICMP and IGMP that a host needs, and for answers to its own
// requests for an address.
func silent(c *chain, r *rule) bool {
	if c.name == "OUTPUT" || c.name == "FORWARD" || r.target != "ACCEPT" {
		return false
	}
	needed := []string{
		"0", "3", "3/4", "4", "11", "12", "0/0", "11/0", "3/1", "3/3", "echo-reply", "destination-unreachable",
		"fragmentation-needed", "time-exceeded", "ttl-exceeded", "parameter-problem", "source-quench",
		"1", "2", "129", "133", "134", "135", "136", "130", "131", "132", "143", "packet-too-big",
		"router-solicitation", "router-advertisement", "neighbour-solicitation", "neighbour-advertisement",
		"neighbor-solicitation", "neighbor-advertisement",
	}
	sport := ""
	for _, t := range r.tests {
		if t.kind == onUnknown || t.kind == onRate || t.kind == onFlood {
			return false
		}
		if t.kind == onProtocol && !t.not && t.protocol == igmp {
			return true
		}
		if t.kind == onICMP && !t.not && slices.Contains(needed, strings.ToLower(t.words[0])) {
			return true
		}
		if t.kind == onSourcePort && !t.not && len(t.ports) == 1 {
			sport = t.ports[0].String()
		}
	}
	for _, t := range r.tests {
		if t.kind == onPort && len(t.ports) == 1 {
			n := t.ports[0].First
			dhcp := policy.Service{First: 67, Last: 67}.String() == sport && n == 68 || policy.Service{First: 547, Last: 547}.String() == sport && n == 546
			return dhcp || n == 546 && sport == ""
		}
	}
	return false
}
