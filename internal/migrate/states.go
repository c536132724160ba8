package migrate

import (
	"encoding/binary"
	"slices"

	"postern/internal/policy"
)

// A machine is how the rules behave to a source at one place: the states that
// it can get into, and what each probe does in each. States that behave alike
// are one class. Root, which has no tags, is state 0 and class 0.
type machine struct {
	*walker
	mentions
	at    place
	tags  []tags
	out   [][]outcome // by state and port
	next  [][]int     // the state after
	class []int       // of a state
	first []int       // state of a class
}

const maxStates = 500

// explore walks every probe through every state that it can bring about.
func (w *walker) explore(m mentions, at place) (*machine, error) {
	x := &machine{walker: w, mentions: m, at: at, tags: []tags{{}}}
	index := map[tags]int{{}: 0}
	for s := 0; s < len(x.tags); s++ {
		out, next := make([]outcome, len(m.ports)), make([]int, len(m.ports))
		for i, port := range m.ports {
			out[i] = w.send(probe{port, at}, x.tags[s])
			n, known := index[out[i].tags]
			if !known {
				n = len(x.tags)
				index[out[i].tags] = n
				x.tags = append(x.tags, out[i].tags)
			}
			next[i] = n
		}
		x.out, x.next = append(x.out, out), append(x.next, next)
		if w.work < 0 || len(x.tags) > maxStates {
			return nil, errTooLarge
		}
	}
	x.classify()
	return x, nil
}

// classify finds the states that nobody can tell apart: it divides them by what
// is accepted, and then, until nothing changes, by where they lead.
func (x *machine) classify() {
	x.class = make([]int, len(x.tags))
	for count := 0; ; {
		seen := map[string]int{}
		class := make([]int, len(x.tags))
		var b []byte
		for s := range x.tags {
			b = binary.AppendUvarint(b[:0], uint64(x.class[s]))
			for i := range x.ports {
				o := &x.out[s][i]
				b = binary.AppendUvarint(b, uint64(x.class[x.next[s][i]])<<1|bit(o.verdict == accepted))
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

func bit(is bool) uint64 {
	if is {
		return 1
	}
	return 0
}

// grants are the ports that a state lets in and root does not, by index.
func (x *machine) grants(state int) []int {
	var all []int
	for i, port := range x.ports {
		if port.Protocol != policy.ICMP && x.out[state][i].verdict == accepted && x.out[0][i].verdict != accepted {
			all = append(all, i)
		}
	}
	return all
}

// run gives the state that ports, by index, lead to.
func (x *machine) run(state int, ports []int) int {
	for _, i := range ports {
		state = x.next[state][i]
	}
	return state
}

// opensAnywhere tells whether some state lets a port in, by index.
func (x *machine) opensAnywhere(port int) bool {
	return slices.ContainsFunc(x.out, func(out []outcome) bool { return out[port].verdict == accepted })
}
