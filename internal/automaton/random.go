package automaton

import (
	"math"

	"postern/internal/policy"
)

// exactStates is how many states a machine may have for all of them to be part
// of the chain. In larger machines only the states on a door's own path are;
// the others count as root, from which they differ only for the few ports that
// they have edges and loops for.
const exactStates = 64

// randomScan gives for each door the average number of random probes until its
// first grant: the expected time to absorption of the Markov chain that the
// machine is under a random scan.
func (m *Machine) randomScan(s Scan) []Result {
	leaving := m.leaving()
	// Doors with the same kinds of knocks are scanned alike.
	type kinds struct{ tcp, udp, echo bool }
	scans := map[kinds]*chance{}
	results := make([]Result, len(m.Doors))
	for i := range m.Doors {
		of := protocols(m.Doors[i].Knock.Sequence)
		k := kinds{of[policy.TCP], of[policy.UDP], of[policy.ICMP]}
		if scans[k] == nil {
			scans[k] = newChance(m, s, m.targets(of), leaving)
		}
		results[i] = scans[k].open(i)
	}
	return results
}

// leaving gives the edges from each state.
func (m *Machine) leaving() map[StateID][]*Edge {
	from := make(map[StateID][]*Edge, len(m.States)+1)
	for i := range m.Edges {
		e := &m.Edges[i]
		from[e.From] = append(from[e.From], e)
	}
	return from
}

// A chance is a random scan of some targets.
type chance struct {
	machine *Machine
	scan    Scan
	targets targets
	leaving map[StateID][]*Edge
	first   []*Edge // root's edges for live targets
	exact   bool    // all states are part of the chain
}

func newChance(m *Machine, s Scan, t targets, leaving map[StateID][]*Edge) *chance {
	c := &chance{machine: m, scan: s, targets: t, leaving: leaving, exact: len(m.States) <= exactStates}
	for _, e := range leaving[Root] {
		if t.live[e.On] {
			c.first = append(c.first, e)
		}
	}
	return c
}

// open gives the average number of probes until a door's first grant.
//
// The budget of first knocks makes it a lower bound. As many of them must pass
// as the chain says, whenever they do, and in a time t no more than Burst+Rate*t
// pass.
func (c *chance) open(door int) Result {
	result := Result{Door: &c.machine.Doors[door]}
	if len(c.first) == 0 { // everything is allowed
		return result
	}
	probes, first := c.chain(door).solve()
	if math.IsInf(probes, 1) {
		return result
	}
	result.Opens, result.Probes = true, probes
	if budget := c.machine.Parameters.FirstKnocks; budget != (Budget{}) {
		waiting := (first - float64(budget.Burst)) / float64(budget.Rate) // seconds
		result.Probes = max(probes, waiting*c.scan.Rate)
	}
	return result
}

// A chain is an absorbing Markov chain. State 0 is root, and the last column of
// a row leads to the door's grant. What happens in a state until it is left is
// one step of the chain.
type chain struct {
	next   [][]float64 // the probability of each next state
	probes []float64   // the average number of probes in the state
	first  []float64   // the average number of first knocks among them
}

// chain builds the chain of a door.
func (c *chance) chain(door int) *chain {
	index := c.states(door)
	grant := len(index)
	k := &chain{
		next:   make([][]float64, len(index)),
		probes: make([]float64, len(index)),
		first:  make([]float64, len(index)),
	}
	to := func(e *Edge) int {
		if e.Door == door {
			return grant
		}
		return index[e.To] // 0 for the states that count as root
	}
	first := c.first // those that matter by themselves
	if !c.exact {
		first = []*Edge{c.machine.edges[input{Root, c.machine.Doors[door].Knock.Sequence[0]}]}
	}
	for id, at := range index {
		k.next[at] = make([]float64, grant+1)
		c.fill(k, id, at, first, to)
	}
	return k
}

// states numbers the states of a door's chain.
func (c *chance) states(door int) map[StateID]int {
	index := map[StateID]int{Root: 0}
	if c.exact {
		for i := range c.machine.States {
			index[c.machine.States[i].ID] = i + 1
		}
		return index
	}
	state := Root
	sequence := c.machine.Doors[door].Knock.Sequence
	for i, port := range sequence[:len(sequence)-1] {
		state = c.machine.edges[input{state, port}].To
		index[state] = i + 1
	}
	return index
}

// fill computes one row of the chain.
func (c *chance) fill(k *chain, id StateID, at int, first []*Edge, to func(*Edge) int) {
	all := float64(len(c.targets.ports))
	row := k.next[at]
	taken := map[policy.Port]bool{} // what does not fall back to root's edges
	stay := float64(len(c.targets.ports) - len(c.targets.live))
	left := all - stay // what is a stray, once the rest is taken off
	state := c.machine.states[id]
	if state != nil {
		for _, port := range state.Loops {
			if c.targets.live[port] {
				taken[port] = true
				stay++
				left--
			}
		}
		for _, e := range c.leaving[id] {
			if c.targets.live[e.On] {
				taken[e.On] = true
				weight := min(left, float64(c.scan.CPUs))
				row[to(e)] += weight
				left -= weight
			}
		}
	}
	for _, e := range first {
		if !taken[e.On] && c.targets.live[e.On] && left >= 1 {
			row[to(e)]++
			left--
		}
	}
	row[0] += left
	firsts := float64(len(c.first))
	for port := range taken {
		if c.machine.edges[input{Root, port}] != nil {
			firsts--
		}
	}

	// The source leaves with the first probe that is no loop, or when its
	// time is up, if that is earlier.
	probes, expired := all/(all-stay), 0.0
	if state != nil {
		chances := float64((state.Timeout - 1) / c.scan.interval())
		expired = math.Pow(stay/all, chances)
		probes *= 1 - expired
		if stay == all {
			probes = chances
		}
	}
	for i := range row {
		row[i] *= probes / all
	}
	row[0] += expired
	k.probes[at] = probes
	k.first[at] = firsts * probes / all
}

// solve gives the average numbers of probes and of first knocks on the way from
// root to the grant; infinity if no way leads there.
//
// It eliminates state after state and never subtracts (Grassmann, Taksar and
// Heyman, 1985), so that probabilities of 1 in 65,535^32 come out as exactly
// as any.
func (k *chain) solve() (probes, first float64) {
	grant := len(k.next)
	for n := grant - 1; n > 0; n-- {
		var leaves float64
		for j, p := range k.next[n] {
			if j < n || j == grant {
				leaves += p
			}
		}
		for i := range n {
			share := k.next[i][n] / leaves
			if k.next[i][n] == 0 {
				continue
			}
			for j, p := range k.next[n] {
				if j < n || j == grant {
					k.next[i][j] += share * p
				}
			}
			k.probes[i] += share * k.probes[n]
			k.first[i] += share * k.first[n]
		}
	}
	return k.probes[0] / k.next[0][grant], k.first[0] / k.next[0][grant]
}
