package automaton

import (
	"cmp"
	"fmt"
	"slices"

	"postern/internal/policy"
)

// lintCPUs is the number of packets that Lint assumes a host judges at the same
// moment. Few hosts use more processors for one network device, and it is easy
// to choose knocks that are further apart.
const lintCPUs = 16

// A Lint is a likely mistake in a valid policy.
type Lint struct {
	Kind LintKind
	policy.Diagnostic
}

// A LintKind is a short name for a mistake, which stays when its words change.
type LintKind string

const (
	ServiceAllowed LintKind = "service-allowed"  // a door hides what is allowed for everyone
	ShortSequence  LintKind = "short-sequence"   // a door opens or closes by few knocks
	KnockAllowed   LintKind = "knock-allowed"    // for everyone: the door never opens
	KnockExempt    LintKind = "knock-exempt"     // for some, who cannot knock
	KnockIsService LintKind = "knock-is-service" // a port is a knock and a service
	KnockRepeated  LintKind = "knock-repeated"   // twice in a row
	KnocksInOrder  LintKind = "knocks-in-order"  // a scan in order opens the door
)

// Lint returns warnings about a valid policy, in the order of the file. The
// machine must be compiled from a policy that Parse returned.
//
// Lint knows only the policy. What the host adds, such as a program that
// listens on a knock port, is checked elsewhere.
func (m *Machine) Lint() []Lint {
	l := linter{machine: m, hiddenBy: map[policy.Port]*Door{}}
	for i := range m.Doors {
		for _, port := range m.Doors[i].Door.Services {
			if l.hiddenBy[port] == nil {
				l.hiddenBy[port] = &m.Doors[i]
			}
		}
	}
	l.allowed()
	for i := range m.Doors {
		d, knock := &m.Doors[i], &m.Doors[i].Knock
		l.sequence(knock.Sequence, knock.SequencePos, "any scan of all ports opens a door with one knock", "two knocks can be guessed")
		l.sequence(knock.Close, knock.ClosePos, "a scan of all ports in somebody's name closes this door to them",
			"two knocks can be guessed, and sent in somebody's name")
		l.knocks(d, knock.Sequence, knock.SequencePos, "so the door never opens")
		l.knocks(d, knock.Close, knock.ClosePos, "so the door never closes")
	}
	l.inOrder(Ascending)
	l.inOrder(Descending)
	slices.SortStableFunc(l.found, func(a, b Lint) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return l.found
}

type linter struct {
	machine  *Machine
	hiddenBy map[policy.Port]*Door // the first door for each service
	found    []Lint
}

func (l *linter) warn(kind LintKind, at policy.Position, message, hint string) {
	l.found = append(l.found, Lint{kind, l.machine.Policy.Diagnose(at, message, hint)})
}

// allowed finds doors that hide a service which is allowed for everyone.
func (l *linter) allowed() {
	for i := range l.machine.Policy.Allow {
		a := &l.machine.Policy.Allow[i]
		if a.From.IsValid() || a.Interface != "" {
			continue // only some are allowed without a knock
		}
		for j := range l.machine.Doors {
			d := &l.machine.Doors[j]
			for _, port := range d.Door.Services {
				if a.Service.Covers(port) {
					l.warn(ServiceAllowed, a.Pos, fmt.Sprintf("%s is allowed for everyone, so %s hides nothing", port, doorRef(d)),
						"remove it from allow, or limit the entry with from or interface")
				}
			}
		}
	}
}

// sequence finds sequences that are easily guessed.
func (l *linter) sequence(knocks []policy.Port, at []policy.Position, one, two string) {
	const hint = "use three knocks or more"
	switch len(knocks) {
	case 1:
		l.warn(ShortSequence, at[0], one, hint)
	case 2:
		l.warn(ShortSequence, at[0], two, hint)
	}
}

// knocks finds knocks whose port has another use. Messages say where the knock is, and
// not which it is: they may end in a log.
func (l *linter) knocks(d *Door, sequence []policy.Port, at []policy.Position, never string) {
	for i, port := range sequence {
		l.knock(d, port, at[i], never)
		if i > 0 && sequence[i-1] == port {
			l.warn(KnockRepeated, at[i], "the same knock twice in a row: a retransmission of the first counts as the second",
				"knock on another port in between")
		}
	}
}

func (l *linter) knock(d *Door, port policy.Port, at policy.Position, never string) {
	const choose = "choose a port that nothing uses"
	for i := range l.machine.Policy.Allow {
		a := &l.machine.Policy.Allow[i]
		if !a.Service.Covers(port) {
			continue
		}
		kind, who, then := KnockAllowed, "", never
		if a.From.IsValid() {
			kind = KnockExempt
			who, then = who+" from "+a.From.String(), "so from there it does not count as a knock"
		}
		if a.Interface != "" {
			kind = KnockExempt
			who, then = who+" on "+a.Interface, "so from there it does not count as a knock"
		}
		l.warn(kind, at, fmt.Sprintf("the port of this knock is allowed%s (line %d), %s", who, a.Pos.Line, then), choose)
	}
	switch hider := l.hiddenBy[port]; {
	case slices.Contains(d.Door.Services, port):
		l.warn(KnockIsService, at, "this knock is a service of this door",
			choose+": programs try a service before its door is open, and such a connection counts as a knock")
	case hider != nil:
		l.warn(KnockIsService, at, fmt.Sprintf("this knock is also the service of %s: a client with a grant there cannot knock here", doorRef(hider)), choose)
	}
}

// inOrder finds sequences that a scan in order opens.
func (l *linter) inOrder(order Order) {
	for _, r := range l.machine.Scan(Scan{Order: order, CPUs: lintCPUs}) {
		if knock := &r.Door.Knock; r.Opens && len(knock.Sequence) > 1 {
			l.warn(KnocksInOrder, knock.SequencePos[0], fmt.Sprintf("these knocks are in %s order, and so close that a fast scan may open the door", order),
				"go up and down, and choose ports that are far apart")
		}
	}
}

// doorRef returns the form in which a message names another door.
func doorRef(d *Door) string {
	return fmt.Sprintf("door %s (line %d)", d.Name, d.Pos.Line)
}
