package conformance

import (
	"fmt"
	"strings"
)

// counts is what the packets of a run have met with. A suite whose knocks never
// open a door, or whose grants never run out, proves little.
type counts struct {
	policies, scenarios, packets, looks int
	unsure                              int // scenarios that came too near to a deadline
	met                                 map[string]int
}

// floors are the shares of all packets that must have met with each thing, at
// the least: a third or less of what a run of the ordinary length has.
var floors = []struct {
	what  string
	share float64
}{
	{"granted by a last knock", 0.04},
	{"admitted by a grant", 0.03},
	{"admitted again as the same packet", 0.002},
	{"moved on by a knock", 0.05},
	{"left where it was by a loop", 0.01},
	{"set back to the root", 0.03},
	{"begun anew from part-way", 0.002},
	{"come too late for the next knock", 0.01},
	{"come too late for the grant", 0.001},
	{"lost a grant", 0.002},
	{"kept a grant when beginning anew", 0.0005},
	{"refused by the budget of first knocks", 0.001},
	{"refused by from", 0.003},
	{"taken by an allow entry", 0.01},
	{"part of a known flow", 0.002},
	{"no input", 0.003},
	{"not governed", 0.005},
	{"passed untouched in guard", 0.05},
	{"covered", 0.1},
}

// add counts a scenario that was played.
func (c *counts) add(t *trial) {
	if c.met == nil {
		c.met = map[string]int{}
	}
	c.scenarios++
	if t.unsure {
		c.unsure++
	}
	c.packets += len(t.outcomes)
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
		"no input":                              v.kind == stray,
		"not governed":                          v.kind == ungoverned,
		"passed untouched in guard":             isInput && v.pass && !d.Admitted,
		"covered":                               isInput && !v.pass,
	}
}

// missing tells what the run has met with too seldom.
func (c *counts) missing() []string {
	var all []string
	for _, f := range floors {
		if least := f.share * float64(c.packets); float64(c.met[f.what]) < least {
			all = append(all, fmt.Sprintf("%d packets were %q, of at least %.0f that make a proof", c.met[f.what], f.what, least))
		}
	}
	return all
}

func (c *counts) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d packets in %d scenarios under %d policies; %d looks at what the backend holds; "+
		"%d scenarios left out for coming too near to a deadline", c.packets, c.scenarios, c.policies, c.looks, c.unsure)
	for _, f := range floors {
		fmt.Fprintf(&b, "\n%8d  %s", c.met[f.what], f.what)
	}
	return b.String()
}
