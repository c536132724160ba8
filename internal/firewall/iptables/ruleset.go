// Package iptables runs machines in the manner of the how-to that Postern comes
// from: with iptables and ip6tables rules, and with xt_recent for a memory.
//
// A policy that asks for the how-to's own habits gets the how-to's rules, word for
// word (see classic.go). All others get rules that do what the machine says (host.go,
// gate.go, door.go, nat.go, token.go). Compile is pure, and gives both families' rules.
//
// They have two forms. Save and Script write rules that stand alone, for tables that
// have no others, as the how-to does: what is let in is accepted. Rules beside
// others', which Backend loads (shared.go), have chains and lists whose names begin with
// POSTERN, jumps to them in the kernel's own chains, and what is let in
// goes back to the chain that it came from, where others may still drop it.
package iptables

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/netip"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// A Family is an IP version, which has a program and tables of its own.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

var families = []Family{IPv4, IPv6}

// Program is the family's command.
func (f Family) Program() string {
	if f == IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

func (f Family) bits() int {
	if f == IPv6 {
		return 128
	}
	return 32
}

// sample is an address of the family, to ask what depends on the family alone.
func (f Family) sample() netip.Addr {
	if f == IPv6 {
		return netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1})
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, 1})
}

// of reports whether an address is of the family.
func (f Family) of(a netip.Addr) bool { return a.Unmap().Is4() == (f == IPv4) }

// A Ruleset is what a machine compiles to.
type Ruleset struct {
	tables map[Family][]*table
	keys   map[Family]*chain                      // of the codes of tokens, empty until rules are loaded
	tokens map[Family]map[*automaton.Token]*chain // where these lead
	digest string
}

// Digest names the rule set: it is the same for the same rules.
func (r *Ruleset) Digest() string { return r.digest }

// sum returns the digest of the rules as they stand, for a policy.
func (r *Ruleset) sum(p *policy.Policy) string {
	sum := sha256.New()
	for _, f := range families {
		sum.Write([]byte(r.Save(f, firewall.Plain)))
		for _, t := range r.shared(f, nil) {
			sum.Write([]byte(t.text()))
		}
	}
	io.WriteString(sum, firewall.TokenTerms(p))
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// A table is one of the kernel's: filter, nat or raw.
type table struct {
	name   string
	chains []*chain // those that the kernel calls come first
}

// A chain is a list of rules.
type chain struct {
	name, doc string
	policy    string // of a chain that the kernel calls, where the table has no other rules; else ""
	sub       bool   // it comes back to its caller, whatever the packet
	last      string // the kernel's chain that ends with it, beside rules of others; there is none where rules stand alone. Else ""
	rules     []rule
}

// A rule does what its target says to packets that all its matches hold for.
type rule struct {
	doc     string
	matches []match
	target  target
}

// A target is what becomes of a packet. The zero value is nothing: the rule is
// there for what its matches do.
type target struct {
	verdict string // "-j DROP", as both forms say it
	chain   *chain
	pass    bool // let it in
	leave   bool // it is none of ours: where there are no other rules, it goes to chain
}

var (
	nothing = target{}
	pass    = target{pass: true}
	drop    = target{verdict: "-j DROP"}
	keep    = target{verdict: "-j ACCEPT"} // in nat: it is not diverted
)

func to(c *chain) target { return target{chain: c} }

// add appends a rule, with its matches in the order in which they are listed.
func (c *chain) add(doc string, t target, matches ...match) {
	matches = slices.Clone(matches)
	slices.SortStableFunc(matches, func(a, b match) int { return a.rank() - b.rank() })
	c.rules = append(c.rules, rule{doc, matches, t})
}

// A compiler makes one family's rules.
type compiler struct {
	m *automaton.Machine
	p *policy.Policy
	f Family

	isClassic bool // the rules are the how-to's own

	filter, nat, raw []*chain

	cover            target // where what is not let in goes
	hidden           target // what is for a hidden service, whatever its address
	admitted         target // where what a door admits goes
	knocking, forget *chain // forget is nil where no door has forfeit
	gates            map[automaton.StateID]*chain
	keys             *chain
	tokenChains      map[*automaton.Token]*chain
	accepting        map[doorIn]*chain

	// By door, where its last knock leads, and what it does before.
	doors  []target
	closes []target // the same for the last knock that closes it
	inline [][]match
}

// Compile returns the rules that run a machine. The machine must be of Machine, which
// refuses what iptables cannot say.
func Compile(m *automaton.Machine) *Ruleset {
	r := &Ruleset{tables: map[Family][]*table{}, keys: map[Family]*chain{}, tokens: map[Family]map[*automaton.Token]*chain{}}
	classic := isClassic(m.Policy)
	for _, f := range families {
		c := &compiler{m: m, p: m.Policy, f: f, isClassic: classic, accepting: map[doorIn]*chain{}, tokenChains: map[*automaton.Token]*chain{}}
		if classic {
			c.classic()
		} else {
			c.general()
		}
		r.tables[f] = append(r.tables[f], &table{"filter", c.filter})
		if len(c.nat) > 0 {
			r.tables[f] = append(r.tables[f], &table{"nat", c.nat})
		}
		if len(c.raw) > 0 {
			r.tables[f] = append(r.tables[f], &table{"raw", c.raw})
			r.keys[f], r.tokens[f] = c.keys, c.tokenChains
		}
	}
	r.digest = r.sum(m.Policy)
	return r
}

// base makes a chain of the filter table that the kernel calls.
func (c *compiler) base(name, policy string) *chain {
	ch := &chain{name: name, policy: policy}
	c.filter = append(c.filter, ch)
	return ch
}

// chain makes a chain that rules lead to.
func (c *compiler) chain(in *[]*chain, name, doc string) *chain {
	ch := &chain{name: shortened(name, *in), doc: doc}
	*in = append(*in, ch)
	return ch
}

// serves reports whether a door's services can be reached over this family.
func (c *compiler) serves(d *automaton.Door) bool { return d.HasFamilyOf(c.f.sample()) }

// reachable reports whether a service can be reached over this family.
func (c *compiler) reachable(s *automaton.Service) bool {
	return (!s.Address.IsValid() || c.f.of(s.Address)) && (!s.Forward.IsValid() || c.f.of(s.Forward.Addr()))
}

// deepest returns the states, those with the most knocks first.
func (c *compiler) deepest() []*automaton.State {
	var all []*automaton.State
	for i := range c.m.States {
		all = append(all, &c.m.States[i])
	}
	slices.SortStableFunc(all, func(a, b *automaton.State) int { return len(b.Path) - len(a.Path) })
	return all
}

// edges returns a state's edges.
func (c *compiler) edges(from automaton.StateID) []*automaton.Edge {
	var all []*automaton.Edge
	for i := range c.m.Edges {
		if c.m.Edges[i].From == from {
			all = append(all, &c.m.Edges[i])
		}
	}
	return all
}
