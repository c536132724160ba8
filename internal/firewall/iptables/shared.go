package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// A sharedTable is what is loaded into a table that has rules of others.
type sharedTable struct {
	table  string
	chains []ownChain
	jumps  []jump // from the kernel's own chains
}

// A ownChain is one of ours.
type ownChain struct {
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

// Ours reports whether a chain is one that Backend loads, by its name.
func Ours(chain string) bool { return strings.HasPrefix(chain, prefix) }

// shared returns a family's rules as they stand beside others', the names of lists with
// a key.
func (r *Ruleset) shared(f Family, k *listKey) []sharedTable {
	var all []sharedTable
	for _, t := range r.tables[f] {
		g := sharedTable{table: t.name}
		for _, c := range t.chains {
			if c.policy != "" && len(c.rules) == 0 {
				continue
			}
			one := ownChain{name: prefix + c.name}
			for i := range c.rules {
				rule := &c.rules[i]
				matches := slices.DeleteFunc(slices.Clone(rule.matches), func(m match) bool { return m.alone })
				one.rules = append(one.rules,
					"-A "+join(one.name, joinMatches(matches, func(m match) string { return m.shared(k) }), rule.counted(), rule.target.shared()))
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

// What comes before a door's name in the comment of a rule that opens it.
const (
	opensDoor  = "postern: opens "
	opensByKey = "postern: key opens "
)

// counterOf returns the counter that a rule is, by its comment.
func counterOf(comment string) (name string, found bool) {
	if door, found := strings.CutPrefix(comment, opensDoor); found {
		return "door_" + door, true
	}
	door, found := strings.CutPrefix(comment, opensByKey)
	return "key_" + door, found
}

// counted returns the comment of a rule that counts the openings of a door.
func (r *rule) counted() string {
	for _, m := range r.matches {
		if m.opens != "" {
			return fmt.Sprintf("-m comment --comment %q", m.opens)
		}
	}
	return ""
}

// text writes all of it.
func (g *sharedTable) text() string {
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

// shared is the match as it stands beside rules of others.
func (m match) shared(k *listKey) string {
	return m.named(m.full, func(t *recentList) string { return t.loaded(k) })
}

// shared is the target beside rules of others: what is let in returns to the kernel's own
// chain, for others to judge. So chains are gone to, not called; only those that
// always come back are called.
func (t target) shared() string {
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
