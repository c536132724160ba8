package migrate

import (
	"encoding/binary"
	"slices"

	"postern/internal/policy"
)

// A machine is how the rules behave to a source at one place: the states that it
// can get into, and what each probe does in each. States that behave alike are
// one class. Root, in no list, is state 0 and class 0.
type machine struct {
	*walker
	scope
	at    place
	lists []listed    // of a state
	out   [][]outcome // by state and port
	next  [][]int     // the state after
	class []int       // of a state
	first []int       // state of a class
}

const maxStates = 500

// explore sends every probe in every state that probes can bring about.
func (w *walker) explore(s scope, at place) (*machine, error) {
	x := &machine{walker: w, scope: s, at: at, lists: []listed{{}}}
	index := map[listed]int{{}: 0}
	for state := 0; state < len(x.lists); state++ {
		out, next := make([]outcome, len(s.ports)), make([]int, len(s.ports))
		for i, port := range s.ports {
			out[i] = w.send(probe{port, at}, x.lists[state])
			n, known := index[out[i].listed]
			if !known {
				n = len(x.lists)
				index[out[i].listed] = n
				x.lists = append(x.lists, out[i].listed)
			}
			next[i] = n
		}
		x.out, x.next = append(x.out, out), append(x.next, next)
		if w.work < 0 || len(x.lists) > maxStates {
			return nil, errTooLarge
		}
	}
	x.classify()
	return x, nil
}

// classify finds the states that nobody can tell apart: it divides them by what
// is accepted, and then, until nothing changes, by where they lead.
func (x *machine) classify() {
	x.class = make([]int, len(x.lists))
	for count := 0; ; {
		seen := map[string]int{}
		class := make([]int, len(x.lists))
		var b []byte
		for s := range x.lists {
			b = binary.AppendUvarint(b[:0], uint64(x.class[s]))
			for i := range x.ports {
				o := &x.out[s][i]
				accepts := uint64(0)
				if o.accepts {
					accepts = 1
				}
				b = binary.AppendUvarint(b, uint64(x.class[x.next[s][i]])<<1|accepts)
				if o.forward.IsValid() {
					b = o.forward.AppendTo(b)
				}
			}
			id, known := seen[string(b)]
			if !known {
				id = len(seen)
				seen[string(b)] = id
			}
			class[s] = id
		}
		x.class = class
		if len(seen) == count {
			break
		}
		count = len(seen)
	}
	for s, c := range x.class {
		if c == len(x.first) {
			x.first = append(x.first, s)
		}
	}
}

// grants are the ports that a state lets in and root does not, by index.
func (x *machine) grants(state int) []int {
	var all []int
	for i, port := range x.ports {
		if port.Protocol != policy.ICMP && x.out[state][i].accepts && !x.out[0][i].accepts {
			all = append(all, i)
		}
	}
	return all
}

// run returns the state that ports, by index, lead to.
func (x *machine) run(state int, ports []int) int {
	for _, i := range ports {
		state = x.next[state][i]
	}
	return state
}

// An opening is a way from root to a state that lets more in.
type opening struct {
	*machine
	knocks []int // ports, by index
	opens  []int // ports, by index: those that were not let in before the last knock
}

const maxOpenings = 64

// openings finds every sequence that opens something: the shortest ways into each
// state that lets in more than the state before did.
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
			before := x.grants(state)
			more := slices.DeleteFunc(granted, func(i int) bool { return slices.Contains(before, i) })
			for _, way := range ways[class] {
				o := opening{x, append(slices.Clone(way), i), more}
				if !o.redundant() && len(all) < maxOpenings {
					all = append(all, o)
				}
			}
		}
	}
	return all
}

// ways returns the shortest sequences that lead from root to each class. Of
// several ports that do the same it takes the first.
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

// redundant reports whether the end of the sequence alone, or its beginning, opens
// as much, or whether it has a packet in it that a door let in.
func (o *opening) redundant() bool {
	for i := 1; i < len(o.knocks); i++ {
		before := o.run(0, o.knocks[:i])
		if o.open(o.run(0, o.knocks[i:])) || o.open(before) || slices.Contains(o.grants(before), o.knocks[i]) {
			return true
		}
	}
	return false
}

func subset(a, b []int) bool {
	return !slices.ContainsFunc(a, func(i int) bool { return !slices.Contains(b, i) })
}

// states are those that the knocks lead through: before the first, before the
// second, and so on, and at the end the one that lets in.
func (o *opening) states() []int {
	all := []int{0}
	for n := range o.knocks {
		all = append(all, o.run(0, o.knocks[:n+1]))
	}
	return all
}

// last is what becomes of a packet to a service, by index, after all knocks.
func (o *opening) last(service int) *outcome { return &o.out[o.run(0, o.knocks)][service] }

// open reports whether a state still lets in what the sequence opened.
func (o *opening) open(state int) bool { return subset(o.opens, o.grants(state)) }

// same reports whether two openings, maybe at different places, are one door.
func (o *opening) same(p *opening) bool {
	return slices.Equal(o.knocks, p.knocks) && slices.Equal(o.opens, p.opens)
}
