package iptables

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"

	"postern/internal/lazyregexp"
)

// A content is what of a table is ours.
type content struct {
	chains  []ownChain
	entries []entry
}

// An entry is a rule that leads from a chain of others to one of ours.
type entry struct {
	at     int    // its place in the chain, from 1; behind all that is there: 0
	rule   string // "INPUT -j POSTERN-INPUT"
	passed bool   // rules of others before it may let packets in that it should judge
}

// stands reports whether an entry that is there is where another is wanted: where
// nothing gets past it, or, to undo that, in its place from before. One that is to
// be the last stays before what others have appended.
func (e entry) stands(want entry) bool {
	if want.passed {
		return e.at == want.at
	}
	return want.at != 1 || !e.passed
}

// content returns what is to be in the table. Most jumps come first.
func (g *sharedTable) content() content {
	c := content{chains: g.chains}
	for _, j := range g.jumps {
		e := entry{at: 1, rule: j.rule()}
		if j.last {
			e.at = 0
		}
		c.entries = append(c.entries, e)
	}
	return c
}

// content returns what of the table is ours: by its name, or because it leads there.
func (l *loadedTable) content() (c content) {
	if l == nil {
		return c
	}
	for _, listed := range l.chains {
		if Ours(listed.name) {
			one := ownChain{name: listed.name}
			for _, r := range listed.rules {
				one.rules = append(one.rules, r.text)
			}
			c.chains = append(c.chains, one)
			continue
		}
		for i := range listed.rules {
			if r := &listed.rules[i]; Ours(r.leadsTo()) {
				c.entries = append(c.entries, entry{i + 1, r.rest(), l.mayPass(&listed, listed.rules[:i], r)})
			}
		}
	}
	return c
}

func (c *content) empty() bool { return len(c.chains) == 0 && len(c.entries) == 0 }

// index finds a chain; -1 if it is not there.
func (c *content) index(name string) int {
	return slices.IndexFunc(c.chains, func(o ownChain) bool { return o.name == name })
}

// edit writes what iptables-restore --noflush --counters makes a table's content of
// what it holds now: "" if there is nothing to do. The kernel gets it all at once.
// Chains and entries that are there already are left alone (but for entries that rules
// of others let packets past: they become the first), and other rules keep what
// they have counted (but ip6tables-nft-restore 1.8.9 begins again at 0); nothing of
// others is named.
func (l *loadedTable) edit(table string, want content) string {
	now := l.content()
	had := l.counted()
	var b strings.Builder
	var anew []ownChain
	for _, c := range want.chains {
		if i := now.index(c.name); i < 0 || !slices.EqualFunc(now.chains[i].rules, c.rules, alike) {
			fmt.Fprintf(&b, ":%s - [0:0]\n", c.name) // new, or flushed
			anew = append(anew, c)
		}
	}
	for _, c := range anew {
		for _, r := range c.rules {
			count := had[counting(r)]
			fmt.Fprintf(&b, "[%d:%d] %s\n", count.packets, count.bytes, numbered(r))
		}
	}
	gone, come := moves(now.entries, want.entries)
	for _, e := range gone {
		// By what it says and not by its number, so that it is never another's.
		fmt.Fprintf(&b, "-D %s\n", e.rule)
	}
	for _, e := range come {
		chain, rest, _ := strings.Cut(e.rule, " ")
		if e.at == 0 {
			fmt.Fprintf(&b, "-A %s %s\n", chain, rest)
			continue
		}
		fmt.Fprintf(&b, "-I %s %d %s\n", chain, e.at, rest)
	}
	for _, option := range []string{"-F", "-X"} {
		for _, c := range now.chains {
			if want.index(c.name) < 0 {
				fmt.Fprintf(&b, "%s %s\n", option, c.name)
			}
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "*" + table + "\n" + b.String() + "COMMIT\n"
}

// moves returns which entries must go and which come, in this order. A rule that says
// the same as others is deleted before them, so that of several copies all go, unless
// it does not matter where the last one stands.
func moves(now, want []entry) (gone, come []entry) {
	done := map[string]bool{}
	for _, e := range slices.Concat(now, want) {
		if done[e.rule] {
			continue
		}
		done[e.rule] = true
		has, wants := copies(now, e.rule), copies(want, e.rule)
		keep := 0
		if slices.EqualFunc(has, wants, entry.stands) || len(wants) > 0 && wants[0].at == 0 {
			keep = min(len(has), len(wants))
		}
		gone = append(gone, has[keep:]...)
		come = append(come, wants[keep:]...)
	}
	slices.SortStableFunc(come, func(a, b entry) int { return cmp.Compare(a.order(), b.order()) })
	return gone, come
}

// order is where an entry comes among those that are put into a chain.
func (e entry) order() int {
	if e.at == 0 {
		return math.MaxInt
	}
	return e.at
}

// copies returns the entries that say the same.
func copies(all []entry, rule string) []entry {
	return slices.DeleteFunc(slices.Clone(all), func(e entry) bool { return e.rule != rule })
}

// counted returns what the rules of a table have counted, by what they count.
func (l *loadedTable) counted() map[string]listedRule {
	all := map[string]listedRule{}
	if l != nil {
		for _, c := range l.chains {
			for _, r := range c.rules {
				all[counting(r.text)] = r
			}
		}
	}
	return all
}

// counting identifies what a rule counts: how often a door is opened, wherever it stands,
// or what it says.
func counting(rule string) string {
	comment := option(rule, "--comment")
	if _, counts := counterOf(comment); counts {
		return comment
	}
	return numbered(rule)
}

// alike reports whether two rules say the same, by name or by number.
func alike(a, b string) bool { return numbered(a) == numbered(b) }

// protocolNumbers returns the protocols by the names under which iptables lists them:
// its own, and those of /etc/protocols, which small machines do not have.
var protocolNumbers = sync.OnceValue(func() map[string]string {
	numbers := map[string]string{"igmp": "2", "gre": "47", "vrrp": "112", "dccp": "33", "sctp": "132", "udplite": "136"}
	text, err := os.ReadFile("/etc/protocols")
	if err != nil {
		return numbers
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		if fields := strings.Fields(line); len(fields) > 1 {
			numbers[fields[0]] = fields[1]
		}
	}
	return numbers
})

// ofNamed is what a rule asks of the protocol.
var ofNamed = lazyregexp.New(` -p (\S+) `)

// numbered returns a rule with the number of its protocol, as iptables lists it on
// small machines.
func numbered(rule string) string {
	at := ofNamed().FindStringSubmatchIndex(rule)
	if at == nil {
		return rule
	}
	if number, known := protocolNumbers()[rule[at[2]:at[3]]]; known {
		return rule[:at[2]] + number + rule[at[3]:]
	}
	return rule
}
