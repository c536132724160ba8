package automaton

import (
	"math"

	"postern/internal/policy"
)

// exactStates is the largest number of states that are all part of the chain.
// In larger machines only the states on a door's own path are. The others count
// as root; they differ from it only for the few ports that they have edges and
// loops for.
const exactStates = 64

// randomScan returns, for each door, the average number of random probes until
// its first grant. That is the expected time to absorption of the Markov chain
// that the machine is under a random scan.
func (m *Machine) randomScan(s Scan) []Result {
	outgoing := m.outgoing()
	// Doors that knock with the same protocols see the same scan.
	type kinds struct{ tcp, udp, echo bool }
	scans := map[kinds]*randomModel{}
	results := make([]Result, len(m.Doors))
	for i := range m.Doors {
		of := protocols(m.Doors[i].Knock.Sequence)
		k := kinds{of[policy.TCP], of[policy.UDP], of[policy.ICMP]}
		if scans[k] == nil {
			scans[k] = newRandomModel(m, s, m.targets(of), outgoing)
		}
		results[i] = scans[k].open(i)
	}
	return results
}

// outgoing returns the edges from each state.
func (m *Machine) outgoing() map[StateID][]*Edge {
	from := make(map[StateID][]*Edge, len(m.States)+1)
	for i := range m.Edges {
		e := &m.Edges[i]
		from[e.From] = append(from[e.From], e)
	}
	return from
}

// A randomModel is a random scan of some targets.
type randomModel struct {
	machine  *Machine
	scan     Scan
	targets  targets
	outgoing map[StateID][]*Edge
	first    []*Edge // root's edges for live targets
	exact    bool    // all states are part of the chain
	counted  int     // live targets of the budget that the scan spends more of
}

func newRandomModel(m *Machine, s Scan, t targets, outgoing map[StateID][]*Edge) *randomModel {
	c := &randomModel{machine: m, scan: s, targets: t, outgoing: outgoing, exact: len(m.States) <= exactStates}
	for _, e := range outgoing[Root] {
		if t.live.contains(e.On) {
			c.first = append(c.first, e)
		}
	}
	early := map[policy.Protocol]int{}
	for _, port := range t.ports {
		if t.live.contains(port) && m.Early(port) {
			early[port.Protocol]++
		}
	}
	// A kernel that cannot count UDP apart counts it with the rest.
	tcp, udp := early[policy.TCP], early[policy.UDP]
	rest := t.live.size - tcp - udp
	c.counted = min(max(tcp+udp, rest), max(tcp, udp+rest))
	return c
}

// open returns the average number of probes until a door's first grant.
//
// The budget of attempts makes it a lower bound, wherever the sender pauses: the
// chain says how many inputs must count, or first knocks where only these take from
// the budget. In a time t no more than Burst+Rate*t of them do. Where there are two
// budgets, it is the one that the scan spends more of.
func (c *randomModel) open(door int) Result {
	result := Result{Door: &c.machine.Doors[door]}
	if len(c.first) == 0 { // everything is allowed
		return result
	}
	probes, first := c.chain(door).solve()
	if math.IsInf(probes, 1) {
		return result
	}
	result.Opens, result.Probes = true, probes
	if budget := c.machine.Parameters.Attempts; budget != (Budget{}) {
		counted := first
		if c.machine.Parameters.Counted == EveryInput {
			counted = probes * float64(c.counted) / float64(len(c.targets.ports))
		}
		waiting := (counted - float64(budget.Burst)) / float64(budget.Rate) // seconds
		result.Probes = max(probes, waiting*c.scan.Rate)
	}
	return result
}

// A chain is an absorbing Markov chain. State 0 is root, and the last column of
// a row leads to the door's grant. One step of the chain is all that happens in
// a state until it is left.
type chain struct {
	next   [][]float64 // the probability of each next state
	probes []float64   // the average number of probes in the state
	first  []float64   // the average number of first knocks among them
}

// chain returns the chain of a door.
func (c *randomModel) chain(door int) *chain {
	index := c.states(door)
	grant := len(index)
	k := &chain{
		next:   make([][]float64, len(index)),
		probes: make([]float64, len(index)),
		first:  make([]float64, len(index)),
	}
	to := func(e *Edge) int {
		if e.Door == door && !e.Closes {
			return grant
		}
		return index[e.To] // 0 for the states that count as root
	}
	first := c.first // those with a state of their own in the chain
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
func (c *randomModel) states(door int) map[StateID]int {
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
func (c *randomModel) fill(k *chain, id StateID, at int, first []*Edge, to func(*Edge) int) {
	all := float64(len(c.targets.ports))
	row := k.next[at]
	taken := map[policy.Port]bool{} // ports that do not fall back to root's edges
	live := float64(c.targets.live.size)
	left := live    // strays, once the rest is subtracted
	leaving := left // all but loops
	state := c.machine.states[id]
	if state != nil {
		for _, port := range state.Loops {
			if c.targets.live.contains(port) {
				taken[port] = true
				left--
			}
		}
		leaving = left
		for _, e := range c.outgoing[id] {
			if c.targets.live.contains(e.On) {
				taken[e.On] = true
				weight := min(left, float64(c.scan.CPUs))
				row[to(e)] += weight
				left -= weight
			}
		}
	}
	for _, e := range first {
		if !taken[e.On] && c.targets.live.contains(e.On) && left >= 1 {
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

	// The source leaves with the first live probe that is not a loop, or when its time
	// is up. A loop gives it the whole time again, so that only so many probes in a
	// row that are not live take it up.
	probes, expired := all/live, 0.0
	if state != nil {
		chances := float64((state.Timeout - 1) / c.scan.interval())
		expired = math.Pow((all-live)/all, chances)
		ends := expired + (1-expired)*leaving/live // rather than begin again, each time
		if live == 0 || ends == 0 {
			// There is no other way out: the sender waits.
			probes, expired = chances, 1
		} else {
			probes *= (1 - expired) / ends
			expired /= ends
		}
	}
	for i := range row {
		row[i] *= probes / all
	}
	row[0] += expired
	k.probes[at] = probes
	k.first[at] = firsts * probes / all
}

// solve returns the average numbers of probes and of first knocks on the way
// from root to the grant, or infinity if there is no such way.
//
// It eliminates one state after the other and never subtracts (Grassmann,
// Taksar and Heyman, 1985). So probabilities of 1 in 65,535^32 are as exact as
// any other.
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
