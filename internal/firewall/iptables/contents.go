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

// places are all tables that Apply may load chains into, in the order in which
// rules are loaded. What filter hides is hidden before nat diverts anything.
var places = []place{{IPv4, "filter"}, {IPv6, "filter"}, {IPv4, "nat"}, {IPv6, "nat"}, {IPv4, "raw"}, {IPv6, "raw"}}

// contents is what is ours in all tables.
type contents map[place]content

// contents returns what Apply loads of a rule set, with a key. It has no label yet.
func (r *Ruleset) contents(k *listKey) contents {
	all := contents{}
	for _, f := range families {
		for _, g := range r.shared(f, k) {
			all[place{f, g.table}] = g.content()
		}
	}
	return all
}

// shape identifies contents by how many rules each chain has, and by what leads
// there. The label of each loaded table has the shape of all, so that it shows when
// others have flushed, added or deleted something. (Not when a rule was replaced by another.)
// Codes are no part of it: they are held against those of the program.
func (c contents) shape() string {
	sum := sha256.New()
	for _, at := range places {
		here := c[at]
		chains := slices.SortedFunc(slices.Values(here.chains), func(a, b ownChain) int { return cmp.Compare(a.name, b.name) })
		for _, one := range chains {
			rules := len(one.rules)
			if one.name == prefix+keysChain {
				rules = 0
			}
			fmt.Fprintln(sum, at.family, at.table, one.name, rules)
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

// A label names the rule set that a loaded table belongs to, in the comment of a rule.
type label struct {
	digest, shape string
	key           *listKey // of the lists
	created       []string // what Apply created: chains that the kernel calls, and the table
}

const (
	labelDigest  = "postern: rule set "
	labelShape   = ", shape "
	labelKey     = ", key "
	labelCreated = ", made "
	createdTable = "table"
)

func (n *label) String() string {
	text := labelDigest + n.digest + labelShape + n.shape
	if n.key != nil {
		text += labelKey + n.key.String()
	}
	if len(n.created) > 0 {
		text += labelCreated + strings.Join(n.created, " ")
	}
	return text
}

// parseLabel is String's reverse.
func parseLabel(text string) (n label, ok bool) {
	text, ok = strings.CutPrefix(text, labelDigest)
	text, made, _ := strings.Cut(text, labelCreated)
	text, key, _ := strings.Cut(text, labelKey)
	n.digest, n.shape, _ = strings.Cut(text, labelShape)
	n.key = parseListKey(key)
	n.created = strings.Fields(made)
	return n, ok
}

// with puts the label on the first rule.
func (c content) with(n label) content {
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

// label finds the label of what is loaded.
func (c *content) label() (n label, found bool) {
	for _, one := range c.chains {
		for _, rule := range one.rules {
			if n, ok := parseLabel(option(rule, "--comment")); ok {
				return n, true
			}
		}
	}
	return n, false
}

// key returns the key of the lists of what is loaded, or nil.
func (c contents) key() *listKey {
	for _, at := range places {
		here := c[at]
		if n, found := here.label(); found && n.key != nil {
			return n.key
		}
	}
	return nil
}

// creates returns which of the chains that are missing, or the table, loading the
// content makes.
func (c *content) creates(missing []string) []string {
	var made []string
	for _, name := range missing {
		if name == createdTable || slices.ContainsFunc(c.entries, func(e entry) bool { return strings.HasPrefix(e.rule, name+" ") }) {
			made = append(made, name)
		}
	}
	return made
}
