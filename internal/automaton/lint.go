package automaton

import (
	"cmp"
	"fmt"
	"slices"

	"postern/internal/policy"
)

// nearby is the number of packets that Lint takes a host to judge at the same
// moment. Few hosts have more processors at one network device, and knocks
// that are further apart than that are easy to choose.
const nearby = 16

// Lint gives what a valid policy says and hardly means, in the order of the
// file. The machine must be compiled from a policy that Parse returned.
//
// It knows the policy alone. What the host has to do with it, such as a program
// that listens on a knock port, is for others to look at.
func (m *Machine) Lint() []policy.Diagnostic {
	l := linter{machine: m, hiders: map[policy.Port]*Door{}}
	for i := range m.Doors {
		for _, port := range m.Doors[i].Door.Services {
			if l.hiders[port] == nil {
				l.hiders[port] = &m.Doors[i]
			}
		}
	}
	l.allowed()
	for i := range m.Doors {
		l.sequence(&m.Doors[i])
		for knock := range m.Doors[i].Knock.Sequence {
			l.knock(&m.Doors[i], knock)
		}
	}
	l.walked(Ascending)
	l.walked(Descending)
	slices.SortStableFunc(l.found, func(a, b policy.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return l.found
}

type linter struct {
	machine *Machine
	hiders  map[policy.Port]*Door // the first door for each service
	found   []policy.Diagnostic
}

func (l *linter) say(at policy.Position, message, hint string) {
	l.found = append(l.found, l.machine.Policy.Diagnose(at, message, hint))
}

// allowed finds doors that hide what everyone may have without a knock.
func (l *linter) allowed() {
	for i := range l.machine.Policy.Allow {
		a := &l.machine.Policy.Allow[i]
		if a.From.IsValid() || a.Interface != "" {
			continue // a door for strangers, and none needed for friends
		}
		for j := range l.machine.Doors {
			d := &l.machine.Doors[j]
			for _, port := range d.Door.Services {
				if a.Service.Covers(port) {
					l.say(a.Pos, fmt.Sprintf("%s is allowed to everyone, and so %s hides nothing", port, named(d)),
						"take it out of allow, or add from or interface to say who needs no knock")
				}
			}
		}
	}
}

// sequence finds sequences that chance opens soon.
func (l *linter) sequence(d *Door) {
	switch len(d.Knock.Sequence) {
	case 1:
		l.say(d.Knock.SequencePos[0], "any scan of all ports opens a door with one knock", "use three knocks or more")
	case 2:
		l.say(d.Knock.SequencePos[0], "two knocks can be guessed", "use three knocks or more")
	}
}

// knock finds knocks that something else gets in the way of.
func (l *linter) knock(d *Door, index int) {
	const choose = "choose a port that nothing uses"
	port, at := d.Knock.Sequence[index], d.Knock.SequencePos[index]
	for i := range l.machine.Policy.Allow {
		a := &l.machine.Policy.Allow[i]
		if !a.Service.Covers(port) {
			continue
		}
		who, then := "", "so the door never opens"
		if a.From.IsValid() {
			who, then = who+" from "+a.From.String(), "so it is no knock from there"
		}
		if a.Interface != "" {
			who, then = who+" on "+a.Interface, "so it is no knock from there"
		}
		l.say(at, fmt.Sprintf("%s is allowed%s (line %d), %s", port, who, a.Pos.Line, then), choose)
	}
	switch hider := l.hiders[port]; {
	case slices.Contains(d.Door.Services, port):
		l.say(at, fmt.Sprintf("%s is a service of this very door", port),
			choose+": programs try a service before its door is open, and a connection to it is not told from a knock")
	case hider != nil:
		l.say(at, fmt.Sprintf("%s is also the service of %s: whoever may enter there cannot knock here", port, named(hider)), choose)
	}
	if index > 0 && d.Knock.Sequence[index-1] == port {
		l.say(at, fmt.Sprintf("%s twice running: when a system sends the first knock again, that is the second", port),
			"knock on another port in between")
	}
}

// walked finds sequences that a scan in order opens.
func (l *linter) walked(order Order) {
	for _, r := range l.machine.Scan(Scan{Order: order, CPUs: nearby}) {
		if knock := &r.Door.Knock; r.Opens && len(knock.Sequence) > 1 {
			l.say(knock.SequencePos[0], fmt.Sprintf("these knocks are in %s order, and so close that a fast scan may open the door", order),
				"go up and down, and choose ports that are far apart")
		}
	}
}

// named is how a message speaks of another door.
func named(d *Door) string {
	return fmt.Sprintf("door %s (line %d)", d.Name, d.Pos.Line)
}
