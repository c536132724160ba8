package iptables

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A place is one table of one family.
type place struct {
	family Family
	table  string
}

// places are all in which there may be something of ours, in the order in which
// rules are loaded. What is hidden by filter is hidden before nat leads anybody on.
var places = []place{{IPv4, "filter"}, {IPv6, "filter"}, {IPv4, "nat"}, {IPv6, "nat"}}

// contents is what is ours, all in all.
type contents map[place]content

// contents gives what Apply loads of a rule set. It does not yet say what it is.
func (r *Ruleset) contents() contents {
	all := contents{}
	for _, f := range families {
		for _, g := range r.guests(f) {
			all[place{f, g.table}] = g.content()
		}
	}
	return all
}

// shape tells contents apart by how many rules each chain has, and by what leads
// there. Each loaded table tells the shape of all, so that it shows when somebody
// has flushed, added or deleted something. (Not when a rule was replaced by another.)
func (c contents) shape() string {
	sum := sha256.New()
	for _, at := range places {
		here := c[at]
		chains := slices.SortedFunc(slices.Values(here.chains), func(a, b guestChain) int { return cmp.Compare(a.name, b.name) })
		for _, one := range chains {
			fmt.Fprintln(sum, at.family, at.table, one.name, len(one.rules))
		}
		var entries []string
		for _, e := range here.entries {
			entries = append(entries, e.rule)
		}
		slices.Sort(entries)
		for _, rule := range entries {
			fmt.Fprintln(sum, at.family, at.table, rule)
		}
		io.WriteString(sum, "\n")
	}
	return hex.EncodeToString(sum.Sum(nil)[:4])
}

// A note is what a loaded table says of itself, in the comment of a rule.
type note struct {
	digest, shape string
	made          []string // what there was not before us: chains that the kernel calls, and the table
}

const (
	noteBegins = "postern: rule set "
	noteShape  = ", shape "
	noteMade   = ", made "
	madeTable  = "table"
)

func (n *note) String() string {
	text := noteBegins + n.digest + noteShape + n.shape
	if len(n.made) > 0 {
		text += noteMade + strings.Join(n.made, " ")
	}
	return text
}

// parseNote is String's reverse.
func parseNote(text string) (n note, ok bool) {
	text, ok = strings.CutPrefix(text, noteBegins)
	text, made, _ := strings.Cut(text, noteMade)
	n.digest, n.shape, _ = strings.Cut(text, noteShape)
	n.made = strings.Fields(made)
	return n, ok
}

// with puts the note on the first rule.
func (c content) with(n note) content {
	c.chains = slices.Clone(c.chains)
	for i := range c.chains {
		if rules := c.chains[i].rules; len(rules) > 0 {
			rules = slices.Clone(rules)
			at := len(rules[0])
			for _, option := range []string{" -j ", " -g "} {
				if j := strings.Index(rules[0], option); j >= 0 {
					at = min(at, j)
				}
			}
			rules[0] = fmt.Sprintf("%s -m comment --comment %q%s", rules[0][:at], n.String(), rules[0][at:])
			c.chains[i].rules = rules
			break
		}
	}
	return c
}

// note finds what the table says of itself.
func (c *content) note() (n note, found bool) {
	for _, one := range c.chains {
		for _, rule := range one.rules {
			if n, ok := parseNote(option(rule, "--comment")); ok {
				return n, true
			}
		}
	}
	return n, false
}

// makes returns which of the chains that are lacking, or the table, loading the
// content makes.
func (c *content) makes(lacking []string) []string {
	var made []string
	for _, name := range lacking {
		if name == madeTable || slices.ContainsFunc(c.entries, func(e entry) bool { return strings.HasPrefix(e.rule, name+" ") }) {
			made = append(made, name)
		}
	}
	return made
}
