//go:build linux

package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/firewall"
)

// Table is the name of the one table that is ours, of the inet family.
const Table = "postern"

// A Ruleset is a whole table: what is to be loaded, knowing no host.
type Ruleset struct {
	sets     []*set
	counters []string
	chains   []*chain
	live     liveSets
	name     *set // its comment names the rule set
	keys     *set // the codes of tokens; nil where no door has keys
	early    *set // those of what is counted early; nil where nothing may be
	told     *set // those of what is not, after a first knock; nil where none is noted
	*tagSets      // nil where tags do not verify tokens
	digest   string
}

// A set is a set, a map or a verdict map.
type set struct {
	name     string
	doc      string // what it holds, for those who read the text
	comment  string // kept in the kernel with the set
	key      []datatype
	data     *datatype // of a map; nil for a set
	verdict  bool      // a map to verdicts
	interval bool
	dynamic  bool // the packet path adds to it; it outlives the policy
	timeout  bool
	size     uint32
	sweep    time.Duration // how often the kernel looks for elements that have ended; 0: each second
	elements []element
}

// isTag reports whether the key is a tag. nft has no name for its type, but for the place
// where it is.
func (s *set) isTag() bool { return s.key[0].Name == nft.TypeInteger.Name }

// A datatype is a type of nft's.
type datatype = nft.SetDatatype

// An element is one entry of a set, in both forms.
type element struct {
	text    string
	key     []byte
	end     []byte // of an interval: the first value after it; nil where it has no end
	data    []byte
	verdict *expr.Verdict
}

// A chain is a list of rules, hooked into the packet path if base is not nil.
type chain struct {
	name  string
	doc   string
	base  *base
	rules []rule
}

// base says where a chain is hooked.
type base struct {
	kind     nft.ChainType
	hook     *nft.ChainHook
	hookName string
	priority int
	where    string // the priority as nft writes it
}

// A rule is a list of statements; the first that does not match ends it.
type rule struct {
	doc        string
	statements []statement
}

// add appends a rule to the chain.
func (c *chain) add(statements ...statement) { c.rules = append(c.rules, rule{statements: statements}) }

// say appends a rule with a comment above it.
func (c *chain) say(doc string, statements ...statement) {
	c.rules = append(c.rules, rule{doc, statements})
}

// Digest names the rule set: two that differ in any rule or element have
// different digests.
func (r *Ruleset) Digest() string { return r.digest }

// set returns the set with a name, or nil.
func (r *Ruleset) set(name string) *set {
	if i := slices.IndexFunc(r.sets, func(s *set) bool { return s.name == name }); i >= 0 {
		return r.sets[i]
	}
	return nil
}

// sum computes the digest. It is part of the rule set afterwards, as a comment,
// so that it can be computed only once.
func (r *Ruleset) sum(more string) string {
	sum := sha256.Sum256([]byte(r.Render(firewall.Plain) + more))
	return hex.EncodeToString(sum[:8])
}

// Render returns the table in nft's syntax, as a file for `nft -f`. Loading it
// replaces an `inet postern` table as a whole, with all that clients have
// earned; Apply is what keeps that.
func (r *Ruleset) Render(style firewall.Style) string {
	var b strings.Builder
	say := func(indent, doc string) {
		if style == firewall.Commented && doc != "" {
			for line := range strings.SplitSeq(doc, "\n") {
				fmt.Fprintf(&b, "%s# %s\n", indent, line)
			}
		}
	}
	gap := func() {
		if style == firewall.Commented {
			b.WriteByte('\n')
		}
	}
	say("", "Written by postern. Knocking hides a service; it does not replace the service's\nown authentication.")
	// Adding the table first lets the deletion succeed where there is none.
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\n", Table, Table)
	fmt.Fprintf(&b, "table inet %s {\n", Table)
	for _, name := range r.counters {
		fmt.Fprintf(&b, "\tcounter %s {\n\t}\n", name)
	}
	for _, s := range r.sets {
		gap()
		say("\t", s.doc)
		s.render(&b)
	}
	for _, c := range r.chains {
		gap()
		say("\t", c.doc)
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.base != nil {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %s; policy accept;\n", c.base.kind, c.base.hookName, c.base.where)
		}
		for _, rule := range c.rules {
			say("\t\t", rule.doc)
			b.WriteString("\t\t" + rule.text() + "\n")
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s *set) render(b *strings.Builder) {
	kind := "set"
	if s.data != nil || s.verdict {
		kind = "map"
	}
	fmt.Fprintf(b, "\t%s %s {\n", kind, s.name)
	names := make([]string, len(s.key))
	for i, k := range s.key {
		names[i] = k.Name
	}
	typ := "type " + strings.Join(names, " . ")
	if s.isTag() {
		typ = "typeof " + tagAt(8).text
	}
	switch {
	case s.verdict:
		typ += " : verdict"
	case s.data != nil && s.isTag():
		typ += " : " + carried.text
	case s.data != nil:
		typ += " : " + s.data.Name
	}
	fmt.Fprintf(b, "\t\t%s\n", typ)
	if s.size > 0 {
		fmt.Fprintf(b, "\t\tsize %d\n", s.size)
	}
	var flags []string
	if s.interval {
		flags = append(flags, "interval")
	}
	if s.dynamic {
		flags = append(flags, "dynamic")
	}
	if s.timeout {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		fmt.Fprintf(b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if s.sweep > 0 {
		fmt.Fprintf(b, "\t\tgc-interval %ds\n", int(s.sweep.Seconds()))
	}
	if s.comment != "" {
		fmt.Fprintf(b, "\t\tcomment %q\n", s.comment)
	}
	if len(s.elements) > 0 {
		b.WriteString("\t\telements = {\n")
		for i, e := range s.elements {
			comma := ","
			if i == len(s.elements)-1 {
				comma = ""
			}
			fmt.Fprintf(b, "\t\t\t%s%s\n", e.text, comma)
		}
		b.WriteString("\t\t}\n")
	}
	b.WriteString("\t}\n")
}

func (r *rule) text() string {
	parts := make([]string, len(r.statements))
	for i, s := range r.statements {
		parts[i] = s.text()
	}
	return strings.Join(parts, " ")
}

// exprs returns the rule in the kernel's form.
func (r *rule) exprs() []expr.Any {
	var k known
	for _, s := range r.statements {
		s.emit(&k)
	}
	return k.exprs
}

// An entry is one element as the kernel takes it.
type entry struct {
	element
	intervalEnd bool
	expire      time.Duration
	limit       *rate // of what the packet path may do with it
}

// entries returns the elements, an interval as its two ends.
func (s *set) entries() []entry {
	var all []entry
	if s.interval && len(s.elements) > 0 && slices.ContainsFunc(s.elements[0].key, func(b byte) bool { return b != 0 }) {
		all = append(all, entry{element: element{key: make([]byte, len(s.elements[0].key))}, intervalEnd: true})
	}
	for _, e := range s.elements {
		all = append(all, entry{element: e})
		if s.interval && e.end != nil {
			all = append(all, entry{element: element{key: e.end}, intervalEnd: true})
		}
	}
	return all
}
