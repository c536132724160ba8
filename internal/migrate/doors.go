package migrate

import (
	"slices"

	"postern/internal/policy"
)

// An opening is a way from root to a state that lets more in.
type opening struct {
	*machine
	knocks []int // ports, by index
	grants []int // ports, by index: those that were not let in before the last knock
}

const maxOpenings = 64

// openings finds every sequence that opens something: the shortest ways into
// each state that lets in more than the state before did.
func (x *machine) openings() []opening {
	ways := x.ways()
	type edge struct{ from, to int }
	seen := map[edge]bool{}
	var all []opening
	for class, state := range x.first {
		for i := range x.ports {
			next := x.next[state][i]
			e := edge{class, x.class[next]}
			granted := x.grants(next)
			if e.from == e.to || seen[e] || len(granted) == 0 || subset(granted, x.grants(state)) {
				continue
			}
			seen[e] = true
			for _, way := range ways[class] {
				o := opening{x, append(slices.Clone(way), i), minus(granted, x.grants(state))}
				if !o.redundant() && len(all) < maxOpenings {
					all = append(all, o)
				}
			}
		}
	}
	return all
}

// ways gives the shortest sequences that lead from root to each class. Of several
// ports that do the same it takes the first.
func (x *machine) ways() [][][]int {
	ways := make([][][]int, len(x.first))
	ways[0] = [][]int{nil}
	for frontier := []int{0}; len(frontier) > 0; {
		var found []int
		for _, class := range frontier {
			done := map[int]bool{}
			for i := range x.ports {
				to := x.class[x.next[x.first[class]][i]]
				if ways[to] != nil && !slices.Contains(found, to) || done[to] {
					continue
				}
				done[to] = true
				if !slices.Contains(found, to) {
					found = append(found, to)
				}
				for _, way := range ways[class] {
					if len(ways[to]) < maxOpenings {
						ways[to] = append(ways[to], append(slices.Clone(way), i))
					}
				}
			}
		}
		frontier = found
	}
	return ways
}

// redundant tells whether the end of the sequence alone, or its beginning, opens
// as much, or whether it has a packet in it that a door let in.
func (o *opening) redundant() bool {
	for i := 1; i < len(o.knocks); i++ {
		if o.hasGrants(o.run(0, o.knocks[i:])) {
			return true
		}
		before := o.run(0, o.knocks[:i])
		if o.hasGrants(before) || slices.Contains(o.machine.grants(before), o.knocks[i]) {
			return true
		}
	}
	return false
}

func minus(a, b []int) []int {
	return slices.DeleteFunc(slices.Clone(a), func(i int) bool { return slices.Contains(b, i) })
}

func subset(a, b []int) bool {
	return !slices.ContainsFunc(a, func(i int) bool { return !slices.Contains(b, i) })
}

// sequence are the knocks as a policy has them.
func (o *opening) sequence() []policy.Port {
	var all []policy.Port
	for _, i := range o.knocks {
		all = append(all, o.ports[i])
	}
	return all
}

// states are those that the knocks lead through: before the first, before the
// second, and so on, and at the end the one that grants.
func (o *opening) states() []int {
	all := []int{0}
	for n := range o.knocks {
		all = append(all, o.run(0, o.knocks[:n+1]))
	}
	return all
}

// grantedBy is the rule that lets the first service in.
func (o *opening) grantedBy() *outcome {
	states := o.states()
	return &o.out[states[len(states)-1]][o.grants[0]]
}

// hasGrants tells whether a state still lets in what the sequence opened.
func (o *opening) hasGrants(state int) bool {
	return subset(o.grants, o.machine.grants(state))
}
