package conformance

import (
	"fmt"
	"strings"

	"postern/internal/automaton"
)

// counts is what the packets of a run have met with. A suite whose knocks never
// open a door, or whose grants never run out, proves little.
type counts struct {
	policies, scenarios, packets, looks int
	unsure                              int // scenarios that came too near to a deadline
	drawn                               int // policies, with those that the backend cannot express
	once                                int // differences that did not come again
	met                                 map[string]int
	possible                            map[string]int // the packets that could have met with it, by their machine's parameters
}

// floors are the shares of all packets that must have met with each thing, at
// the least: less than half of what a run of the ordinary length mostly has. Not
// everything can happen under every policy.
var floors = []struct {
	what  string
	share float64
	under func(*plan, automaton.Parameters) bool // nil: every policy
}{
	{what: "granted by a last knock", share: 0.04},
	{what: "admitted by a grant", share: 0.03},
	{"admitted again as the same packet", 0.002, sameSYN},
	{what: "moved on by a knock", share: 0.05},
	{"left where it was by a loop", 0.008, general},
	{what: "set back to the root", share: 0.03},
	{what: "begun anew from part-way", share: 0.002},
	{what: "come too late for the next knock", share: 0.01},
	{what: "come too late for the grant", share: 0.002},
	{what: "lost a grant", share: 0.002},
	{"kept a grant when beginning anew", 0.0005, general},
	{"refused by the budget of first knocks", 0.001, bounded},
	{"refused by from", 0.003, general},
	{what: "taken by an allow entry", share: 0.006},
	{what: "part of a known flow", share: 0.002},
	{"part of a known TCP flow", 0.005, tracked},
	{"no input", 0.003, openings},
	{"a knock that opens no connection", 0.005, anyPacket},
	{"let in and opens no connection", 0.002, anyPacket},
	{"not governed", 0.004, general},
	{"passed untouched in guard", 0.05, general},
	{what: "covered", share: 0.1},
}

func general(p *plan, _ automaton.Parameters) bool   { return !p.classic }
func sameSYN(_ *plan, p automaton.Parameters) bool   { return p.Known == automaton.SameSYN }
func tracked(_ *plan, p automaton.Parameters) bool   { return p.Known != automaton.SameSYN }
func openings(_ *plan, p automaton.Parameters) bool  { return p.Inputs == automaton.NewConnections }
func anyPacket(_ *plan, p automaton.Parameters) bool { return p.Inputs == automaton.AnyPacket }
func bounded(_ *plan, p automaton.Parameters) bool   { return p.FirstKnocks != automaton.Budget{} }

// add counts a scenario that was played under a policy.
func (c *counts) add(p *plan, t *trial) {
	if c.met == nil {
		c.met, c.possible = map[string]int{}, map[string]int{}
	}
	c.scenarios++
	if t.unsure {
		c.unsure++
	}
	c.packets += len(t.outcomes)
	for _, f := range floors {
		if f.under == nil || f.under(p, t.model.machine.Parameters) {
			c.possible[f.what] += len(t.outcomes)
		}
	}
	for _, v := range t.outcomes {
		for what, met := range v.met() {
			if met {
				c.met[what]++
			}
		}
	}
}

// met tells what a packet has met with.
func (v *outcome) met() map[string]bool {
	d := &v.verdict
	isInput := v.kind == input
	atRoot := d.From == 0
	return map[string]bool{
		"granted by a last knock":               d.Granted,
		"admitted by a grant":                   d.Rule == 2,
		"admitted again as the same packet":     d.Rule == 1,
		"moved on by a knock":                   d.Rule == 3 && d.To != 0 && d.To != d.From,
		"left where it was by a loop":           d.Rule == 3 && d.To == d.From,
		"set back to the root":                  d.Rule == 4 && !atRoot && d.To == 0,
		"begun anew from part-way":              d.Rule == 4 && !atRoot && d.To != 0,
		"come too late for the next knock":      isInput && v.expired,
		"come too late for the grant":           v.late,
		"lost a grant":                          v.forfeits,
		"kept a grant when beginning anew":      v.spared,
		"refused by the budget of first knocks": v.refused,
		"refused by from":                       d.Door != nil && !d.Granted,
		"taken by an allow entry":               v.kind == allowed,
		"part of a known flow":                  v.kind == known,
		"part of a known TCP flow":              v.kind == known && v.tcp,
		"no input":                              v.kind == stray,
		"a knock that opens no connection":      v.bare && isInput && (d.Granted || d.From != d.To && d.To != 0),
		"let in and opens no connection":        v.bare && isInput && d.Admitted,
		"not governed":                          v.kind == ungoverned,
		"passed untouched in guard":             isInput && v.pass && !d.Admitted,
		"covered":                               isInput && !v.pass,
	}
}

// merge adds what another world has met with.
func (c *counts) merge(o *counts) {
	if c.met == nil {
		c.met, c.possible = map[string]int{}, map[string]int{}
	}
	c.policies += o.policies
	c.scenarios += o.scenarios
	c.packets += o.packets
	c.looks += o.looks
	c.unsure += o.unsure
	c.drawn += o.drawn
	c.once += o.once
	for what, n := range o.met {
		c.met[what] += n
	}
	for what, n := range o.possible {
		c.possible[what] += n
	}
}

// missing tells what the run has met with too seldom.
func (c *counts) missing() []string {
	var all []string
	for _, f := range floors {
		if least := f.share * float64(c.possible[f.what]); float64(c.met[f.what]) < least {
			all = append(all, fmt.Sprintf("%d packets were %q, of at least %.0f that make a proof", c.met[f.what], f.what, least))
		}
	}
	return all
}

func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d packets in %d scenarios under %d policies; %d looks at what the backend holds; "+
		"%d scenarios left out for coming too near to a deadline", c.packets, c.scenarios, c.policies, c.looks, c.unsure)
	if c.drawn > c.policies {
		fmt.Fprintf(&b, "; %d more policies that the backend cannot express", c.drawn-c.policies)
	}
	for _, f := range floors {
		if c.possible[f.what] > 0 {
			fmt.Fprintf(&b, "\n%8d  %s", c.met[f.what], f.what)
		}
	}
	return b.String()
}
