package conformance

import (
	"fmt"
	"slices"
	"strings"

	"postern/internal/automaton"
)

// counts is what the packets of a run have tested. A suite whose knocks never
// open a door, or whose grants never expire, proves little.
type counts struct {
	policies, scenarios, packets, inspections int
	unsure                                    int  // scenarios that came too close to a deadline
	drawn                                     int  // policies, including those that the backend cannot express
	unrepeated                                int  // failures that did not recur
	dropped                                   int  // packets that were dropped early
	drops                                     bool // the backend does that
	tags                                      bool // tokens are verified by tags
	met                                       map[string]int
	possible                                  map[string]int // packets for which it was possible, given the machine's parameters
}

// A minimum is the least share of all packets that must have tested a rule: less than
// half of what a run of the ordinary length usually has. Not everything is possible under
// every policy.
type minimum struct {
	what  string
	share float64
	under func(*plan, automaton.Parameters) bool // nil: every policy
}

// tokenMinimums are those of the rules about tokens.
var tokenMinimums = []minimum{
	{"granted by a token", 0.006, hasKeys},
	{"refused for its sender, with a token", 0.0005, hasKeys},
	{"closed a door by a token", 0.001, closesByKey},
	{"of the port of keys, or a ping with a token", 0.02, hasKeys},
	{with(sameToken), 0.002, hasKeys},
	{with(wrongToken), 0.002, hasKeys},
	{with(staleToken), 0.002, hasKeys},
	{with(earlyToken), 0.002, hasKeys},
	{with(othersToken), 0.002, hasKeys},
}

// minimums are those of all others.
var minimums = []minimum{
	{what: "granted by a last knock", share: 0.04},
	{what: "admitted by a grant", share: 0.018},
	{"closed a door", 0.004, general},
	{"closed a door that was open", 0.001, general},
	{"of a flow that a closing has ended", 0.0002, cutting},
	{"admitted again as the same packet", 0.001, sameSYN},
	{what: "moved on by a knock", share: 0.05},
	{"left where it was by a loop", 0.008, general},
	{what: "set back to the root", share: 0.03},
	{what: "restarted from a later state", share: 0.002},
	{what: "too late for the next knock", share: 0.01},
	{what: "too late for the grant", share: 0.002},
	{"kept out as the grant's door has changed", 0.0005, changed},
	{what: "lost a grant", share: 0.002},
	{"kept a grant when restarting", 0.0005, general},
	{"refused by the budget of attempts", 0.001, bounded},
	{"set back with no attempt left", 0.0005, everyInput},
	{"refused by from", 0.003, general},
	{what: "taken by an allow entry", share: 0.006},
	{what: "part of a known flow", share: 0.002},
	{"part of a known TCP flow", 0.005, tracked},
	{"no input", 0.003, newConnections},
	{"a knock that opens no connection", 0.005, anyPacket},
	{"let in and opens no connection", 0.002, anyPacket},
	{"not governed", 0.004, general},
	{"passed untouched in guard", 0.05, general},
	{"admitted and marked", 0.012, marking},
	{what: "not admitted", share: 0.1},
}

// with is what a packet with a token of some kind is counted as.
func with(kind tokenKind) string { return "with " + string(kind) + " token" }

func hasKeys(p *plan, _ automaton.Parameters) bool     { return len(p.users) > 0 }
func closesByKey(p *plan, _ automaton.Parameters) bool { return len(p.users) > 0 && !p.tags }
func cutting(p *plan, a automaton.Parameters) bool     { return p.cuts && sameSYN(p, a) }
func changed(p *plan, _ automaton.Parameters) bool     { return p.change.door != "" }
func general(p *plan, _ automaton.Parameters) bool     { return !p.classic }
func sameSYN(_ *plan, p automaton.Parameters) bool     { return p.Known == automaton.SameSYN }
func tracked(_ *plan, p automaton.Parameters) bool     { return p.Known != automaton.SameSYN }
func newConnections(_ *plan, p automaton.Parameters) bool {
	return p.Inputs == automaton.NewConnections
}
func anyPacket(_ *plan, p automaton.Parameters) bool { return p.Inputs == automaton.AnyPacket }
func everyInput(_ *plan, p automaton.Parameters) bool {
	return bounded(nil, p) && p.Counted == automaton.EveryInput
}
func bounded(_ *plan, p automaton.Parameters) bool { return p.Attempts != automaton.Budget{} }

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
	for _, f := range slices.Concat(minimums, tokenMinimums) {
		if f.under == nil || f.under(p, t.model.machine.Parameters) {
			c.possible[f.what] += len(t.outcomes)
		}
	}
	for i, v := range t.outcomes {
		if kind := t.scenario[i].probe.token; kind != "" {
			c.met[with(kind)]++
		}
		for what, met := range v.met() {
			if met {
				c.met[what]++
			}
		}
	}
}

// met returns the events that a packet has caused.
func (v *outcome) met() map[string]bool {
	d := &v.verdict
	isInput := v.kind == input
	atRoot := d.From == 0
	return map[string]bool{
		"granted by a last knock":                     d.Granted && !v.token,
		"granted by a token":                          d.Granted && v.token,
		"closed a door by a token":                    v.token && d.Closed,
		"refused for its sender, with a token":        v.token && !d.Granted && !d.Closed,
		"of the port of keys, or a ping with a token": v.kind == keyed,
		"admitted by a grant":                         d.Rule == 2,
		"closed a door":                               d.Closed && !v.token,
		"closed a door that was open":                 d.Closed && v.closed,
		"of a flow that a closing has ended":          v.again,
		"admitted again as the same packet":           d.Rule == 1,
		"moved on by a knock":                         d.Rule == 4 && d.To != 0 && d.To != d.From,
		"left where it was by a loop":                 d.Rule == 4 && d.To == d.From,
		"set back to the root":                        d.Rule == 5 && !atRoot && d.To == 0,
		"restarted from a later state":                d.Rule == 5 && !atRoot && d.To != 0,
		"too late for the next knock":                 isInput && v.expired,
		"too late for the grant":                      v.late,
		"kept out as the grant's door has changed":    v.ended,
		"lost a grant":                                v.forfeits,
		"kept a grant when restarting":                v.spared,
		"refused by the budget of attempts":           v.refused,
		"set back with no attempt left":               v.forgot,
		"refused by from":                             d.Door != nil && !d.Granted && !d.Closed && !v.token,
		"taken by an allow entry":                     v.kind == allowed,
		"part of a known flow":                        v.kind == known,
		"part of a known TCP flow":                    v.kind == known && v.tcp,
		"no input":                                    v.kind == stray,
		"a knock that opens no connection":            v.bare && isInput && (d.Granted || d.From != d.To && d.To != 0),
		"let in and opens no connection":              v.bare && isInput && d.Admitted,
		"not governed":                                v.kind == ungoverned,
		"passed untouched in guard":                   isInput && v.pass && !d.Admitted,
		"admitted and marked":                         v.mark == both,
		"not admitted":                                isInput && !v.pass,
	}
}

// merge adds the counts of another testbed.
func (c *counts) merge(o *counts) {
	if c.met == nil {
		c.met, c.possible = map[string]int{}, map[string]int{}
	}
	c.policies += o.policies
	c.scenarios += o.scenarios
	c.packets += o.packets
	c.inspections += o.inspections
	c.unsure += o.unsure
	c.drawn += o.drawn
	c.unrepeated += o.unrepeated
	c.dropped += o.dropped
	c.drops, c.tags = c.drops || o.drops, c.tags || o.tags
	for what, n := range o.met {
		c.met[what] += n
	}
	for what, n := range o.possible {
		c.possible[what] += n
	}
}

// missing returns what the run has tested too seldom.
func (c *counts) missing() []string {
	var all []string
	if least := leastDropped * float64(c.packets); c.drops && float64(c.dropped) < least {
		all = append(all, fmt.Sprintf("%d packets were dropped early, and at least %.0f are needed", c.dropped, least))
	}
	all = append(all, c.tooFew(tokenMinimums)...)
	if !c.tags { // the others have runs of their own
		all = append(all, c.tooFew(minimums)...)
	}
	return all
}

// tooFew returns which of some rules have been tested too seldom.
func (c *counts) tooFew(rules []minimum) (all []string) {
	for _, f := range rules {
		if least := f.share * float64(c.possible[f.what]); float64(c.met[f.what]) < least {
			all = append(all, fmt.Sprintf("%d packets were %q, and at least %.0f are needed", c.met[f.what], f.what, least))
		}
	}
	return all
}

func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d packets in %d scenarios under %d policies; %d inspections of the backend's state; "+
		"%d scenarios left out because they came too close to a deadline", c.packets, c.scenarios, c.policies, c.inspections, c.unsure)
	if c.drawn > c.policies {
		fmt.Fprintf(&b, "; %d more policies that the backend cannot express", c.drawn-c.policies)
	}
	if c.dropped > 0 {
		fmt.Fprintf(&b, "\n%8d  dropped early", c.dropped)
	}
	for _, f := range slices.Concat(minimums, tokenMinimums) {
		if c.possible[f.what] > 0 {
			fmt.Fprintf(&b, "\n%8d  %s", c.met[f.what], f.what)
		}
	}
	return b.String()
}
