package policy

import (
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v4"

	"postern/internal/document"
)

// conflicts finds doors that are valid alone but not together. The error points
// at the later door and names the earlier one. No step compares every pair of
// doors: a policy may have ten thousand.
func (w *walker) conflicts() {
	sequences := newSequences()
	services := map[Port]*claims{}
	for i := range w.doors {
		if at := &w.doors[i]; len(at.knocks) > 0 {
			w.addSequence(sequences, effect{door: i}, w.policy.Doors[i].Knock.Sequence, at.knocks)
		}
		if at := &w.doors[i]; len(at.closing) > 0 {
			w.addSequence(sequences, effect{i, true}, w.policy.Doors[i].Knock.Close, at.closing)
		}
		w.claimServices(services, i)
	}
}

// doorRef returns the form in which a message names an earlier door.
func (w *walker) doorRef(door int) string {
	d := w.policy.Doors[door]
	return fmt.Sprintf("door %s (line %d)", document.Short(d.Name), d.Pos.Line)
}

// none stands for no door.
const none = -1

// sequences is a trie of the knocks of all doors so far.
type sequences struct {
	steps map[step]int // the index of the node that a step leads to
	nodes []progress   // the root is the first
}

// A step is one knock at a node.
type step struct {
	node int
	port Port
}

// A progress is a node: a beginning that sequences share.
type progress struct {
	first effect // of the first sequence that passes here
	ends  effect // of the sequence that ends here
}

// An effect is what a sequence does.
type effect struct {
	door   int  // or none
	closes bool // and does not open it
}

func (e effect) verb() string {
	if e.closes {
		return "close"
	}
	return "open"
}

func newSequences() *sequences {
	nothing := effect{door: none}
	return &sequences{steps: map[step]int{}, nodes: []progress{{nothing, nothing}}}
}

// addSequence checks that knocks open or close their door and no other, and that
// doors which share their first knocks have the same settings for them: until
// the sequences differ, both doors may be meant.
func (w *walker) addSequence(s *sequences, does effect, sequence []Port, places []*yaml.Node) {
	door := does.door
	d, at := &w.policy.Doors[door], &w.doors[door]
	self := "door " + document.Short(d.Name)
	node, added := 0, false
	for i, port := range sequence {
		next, there := s.steps[step{node, port}]
		if !there {
			next, added = len(s.nodes), true
			s.steps[step{node, port}] = next
			s.nodes = append(s.nodes, progress{does, effect{door: none}})
		}
		node = next
		if other := s.nodes[node].ends; other.door != none && i+1 < len(sequence) {
			w.Fail(places[i], fmt.Sprintf("%s can never %s: its first %s already %s", self, does.verb(), knocks(i+1), w.already(i+1, other)),
				"change one of these knocks: no sequence may begin with another one")
			return
		}
	}
	last := places[len(places)-1]
	switch n := &s.nodes[node]; {
	case n.ends.door != none:
		hint := "choose another sequence for one of them"
		if !does.closes && !n.ends.closes {
			hint = "give each door a sequence of its own, or make them one door with a list of services"
		}
		w.Fail(last, fmt.Sprintf("%s %ss by the sequence that %ss %s", self, does.verb(), n.ends.verb(), w.doorRef(n.ends.door)), hint)
		return
	case !added:
		w.Fail(last, fmt.Sprintf("%s could never %s: its sequence begins with all of the one that %ss %s",
			w.doorRef(n.first.door), n.first.verb(), does.verb(), self),
			"change one of these knocks: no sequence may begin with another one")
		n.ends = does
		return
	default:
		n.ends = does
	}

	first := s.nodes[s.steps[step{0, sequence[0]}]].first.door
	if first == door || !at.sound || !w.doors[first].sound {
		return
	}
	other := &w.policy.Doors[first].Knock
	if a, b := other.StepTimeout, d.Knock.StepTimeout; a != b {
		w.Fail(at.valueOf("step_timeout", "knock"), fmt.Sprintf("step_timeout is %s here and %s at %s, and both begin with %s",
			document.FormatDuration(b), document.FormatDuration(a), w.doorRef(first), sequence[0]), "write the same for both, or begin with another knock")
	}
	if a, b := other.Retransmits, d.Knock.Retransmits; a != b {
		w.Fail(at.valueOf("retransmits", "knock"), fmt.Sprintf("retransmits is %s here and %s at %s, and both begin with %s",
			b, a, w.doorRef(first), sequence[0]), "write the same for both, or begin with another knock")
	}
}

func knocks(n int) string {
	if n == 1 {
		return "knock"
	}
	return fmt.Sprintf("%d knocks", n)
}

// already returns what so many knocks do.
func (w *walker) already(n int, does effect) string {
	if n == 1 {
		return does.verb() + "s " + w.doorRef(does.door)
	}
	return does.verb() + " " + w.doorRef(does.door)
}

// valueOf returns the value of a key, or the parent's key if the key is
// missing.
func (at *doorEntry) valueOf(key, parent string) *yaml.Node {
	if e, there := at.entries[key]; there {
		return e.Value
	}
	return at.entries[parent].Key
}

// claims are the doors on one port so far.
type claims struct {
	everywhere int                // the first door without an address, or none
	somewhere  int                // the first door with an address, or none
	first      map[netip.Addr]int // the first door at each address; the zero address is everywhere
}

// claimServices checks that doors on one service have the same settings for its
// connections, which are the service's and not the door's.
func (w *walker) claimServices(services map[Port]*claims, door int) {
	d, at := &w.policy.Doors[door], &w.doors[door]
	if e, there := at.entries["address"]; there && e.Value.Value != "" && !d.Address.IsValid() {
		return // an unreadable address does not mean every address
	}
	for i, port := range d.Services {
		c := services[port]
		if c == nil {
			c = &claims{everywhere: none, somewhere: none, first: map[netip.Addr]int{}}
			services[port] = c
		}
		mine, others := &c.everywhere, c.somewhere
		if d.Address.IsValid() {
			mine, others = &c.somewhere, c.everywhere
		}
		if others != none {
			w.overlap(door, others, at.services[i], port)
			return
		}
		if *mine == none {
			*mine = door
		}
		first, there := c.first[d.Address]
		if !there {
			c.first[d.Address] = door
		} else if at.sound && w.doors[first].sound && !w.agree(door, first, at.services[i], port) {
			return
		}
	}
}

// overlap reports that one of two doors on a port has an address, and the other
// is on every address.
func (w *walker) overlap(door, other int, n *yaml.Node, port Port) {
	where := func(d *Door) string {
		if d.Address.IsValid() {
			return "at " + d.Address.String()
		}
		return "at every address"
	}
	a, b := &w.policy.Doors[other], &w.policy.Doors[door]
	if b.Address.IsValid() {
		n = w.doors[door].entries["address"].Value
	}
	w.Fail(n, fmt.Sprintf("%s is %s here, and %s at %s", port, where(b), where(a), w.doorRef(other)),
		"give both doors an address, or neither")
}

// agree reports whether two doors on one service have the same settings for it,
// and fails those that differ.
func (w *walker) agree(door, other int, n *yaml.Node, port Port) bool {
	a, b := &w.policy.Doors[other], &w.policy.Doors[door]
	forward := func(d *Door) string {
		if d.Forward.IsValid() {
			return d.Forward.String()
		}
		return "none"
	}
	ok := true
	for _, p := range []struct{ key, there, here string }{
		{"forward", forward(a), forward(b)},
		{"masquerade", fmt.Sprint(a.Masquerade), fmt.Sprint(b.Masquerade)},
		{"admit", string(a.Admit), string(b.Admit)},
		{"forfeit", fmt.Sprint(a.Forfeit), fmt.Sprint(b.Forfeit)},
		{"on_close", string(a.OnClose), string(b.OnClose)},
	} {
		if p.there == p.here || p.key == "masquerade" && forward(a) != forward(b) {
			continue
		}
		ok = false
		at := n
		if e, there := w.doors[door].entries[p.key]; there {
			at = e.Value
		}
		hint := "write the same for both: they share the service"
		if p.key == "forward" {
			hint += ", unless each has an address of its own"
		}
		w.Fail(at, fmt.Sprintf("%s is %s here and %s at %s, and both open %s", p.key, p.here, p.there, w.doorRef(other), port), hint)
	}
	return ok
}
