package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// A guest is what is loaded into a table that others have rules in, too.
type guest struct {
	table  string
	chains []guestChain
	jumps  []jump // from the kernel's own chains
}

// A guestChain is one of ours.
type guestChain struct {
	name  string
	rules []string // as iptables-save lists them: "-A POSTERN-GATE1 -j DROP"
}

// A jump is a rule of ours in a chain of the kernel's.
type jump struct {
	from string // INPUT
	to   string // POSTERN-INPUT
	last bool   // it stands behind the rules of others, and not before them
}

// rule is what comes after -A, -I or -D.
func (j jump) rule() string { return j.from + " -j " + j.to }

// Ours tells whether a chain is a guest's, by its name.
func Ours(chain string) bool { return strings.HasPrefix(chain, prefix) }

// guests gives a family's rules as guests.
func (r *Ruleset) guests(f Family) []guest {
	var all []guest
	for _, t := range r.tables[f] {
		g := guest{table: t.name}
		for _, c := range t.chains {
			if c.policy != "" && len(c.rules) == 0 {
				continue
			}
			one := guestChain{name: prefix + c.name}
			for i := range c.rules {
				rule := &c.rules[i]
				matches := slices.DeleteFunc(slices.Clone(rule.matches), func(m match) bool { return m.alone })
				one.rules = append(one.rules,
					"-A "+words(one.name, phrase(matches, match.visiting), rule.counted(), rule.target.visiting()))
			}
			g.chains = append(g.chains, one)
			switch {
			case c.policy != "":
				g.jumps = append(g.jumps, jump{from: c.name, to: one.name})
			case c.last != "":
				g.jumps = append(g.jumps, jump{from: c.last, to: one.name, last: true})
			}
		}
		all = append(all, g)
	}
	return all
}

// opensDoor comes before a door's name in the comment of the rule that opens it.
const opensDoor = "postern: opens "

// counted tells which door's opening the rule counts.
func (r *rule) counted() string {
	for _, m := range r.matches {
		if m.opens != "" {
			return fmt.Sprintf("-m comment --comment %q", opensDoor+m.opens)
		}
	}
	return ""
}

// text writes all that the guest is.
func (g *guest) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, g.table)
	for _, j := range g.jumps {
		fmt.Fprintln(&b, j.rule())
	}
	for _, c := range g.chains {
		fmt.Fprintln(&b, c.name)
		for _, r := range c.rules {
			fmt.Fprintln(&b, r)
		}
	}
	return b.String()
}

// visiting is the match with the names that a guest's lists have.
func (m match) visiting() string { return m.named(m.full, func(t *tag) string { return t.guest }) }

// visiting is the target of a guest: what is let in returns to the kernel's own
// chain, for others to judge. So chains are gone to, not called; only those that
// always come back are called.
func (t target) visiting() string {
	switch {
	case t.leave:
		return "-j RETURN"
	case t.chain != nil && t.chain.sub:
		return "-j " + prefix + t.chain.name
	case t.chain != nil:
		return "-g " + prefix + t.chain.name
	case t.pass:
		return "-j RETURN"
	}
	return t.verdict
}
