package conformance

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/nftables"
)

// A mutant is the nftables backend with a fault in the rules that it loads.
type mutant struct {
	nftables.Backend
	edit func(rules string) string
	any  bool // it takes policies whose rules do not have the fault, too
}

// errNoFault is the error of Apply where the fault would change no rule: such a policy
// proves nothing, and another one is drawn.
var errNoFault = errors.New("the fault is in none of the rules")

func (b mutant) Apply(m *automaton.Machine) error {
	rules := nftables.Compile(m).Render(firewall.Plain)
	if !b.any && b.edit(rules) == rules {
		return errNoFault
	}
	if m.Policy.HasKeys() { // what verifies tokens draws codes, which the text has not
		if err := b.Backend.Apply(m); err != nil {
			return err
		}
		listed, err := exec.Command("nft", "list", "map", "inet", nftables.Table, "keys").Output()
		if err != nil {
			return fmt.Errorf("nft: %w", err)
		}
		empty := "\tmap keys {\n\t\ttype classid : verdict\n"
		rules = strings.Replace(rules, empty, empty+codes.FindString(string(listed))+"\n", 1)
	}
	load := exec.Command("nft", "-f", "-")
	load.Stdin = strings.NewReader(b.edit(rules))
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w\n%s", err, out)
	}
	return nil
}

// codes finds the elements of a map in a listing.
var codes = regexp.MustCompile(`(?s)elements = \{.*?\}`)

// edit replaces whatever matches an expression.
func edit(pattern, with string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(rules string) string { return re.ReplaceAllString(rules, with) }
}

// begunFirst makes the rules judge sources that have begun before they ask for the
// budget.
func begunFirst(rules string) string {
	var first strings.Builder
	first.WriteString("\tchain spend {\n")
	for _, look := range lookUp.FindAllStringSubmatch(rules, -1) {
		fmt.Fprintf(&first, "\t\tmeta l4proto { tcp, udp } %s meta priority != %s goto %s\n", look[2], nobody, look[1])
	}
	return strings.Replace(rules, "\tchain spend {\n", first.String(), 1)
}

// lookUp finds where the rules look up the state of a packet's source.
var lookUp = regexp.MustCompile(`(?m)^\tchain (walk[46]) \{\n\t\t(.* map @at[46])\n`)

// nobody is the state of sources whose last packet was no knock.
const nobody = "1fff:ffff"

// loop finds the elements of the step map, of which some are loops.
var loop = regexp.MustCompile(`(?m)^(\t\t\t)(\w+):(\w+) \. (tcp|udp) \. (\d+) : (\w+):(\w+)`)

// isLoop reports whether such an element leads back to its state.
func isLoop(element []string) bool {
	from, err := strconv.ParseUint(element[2], 16, 16)
	if err != nil {
		return false
	}
	to, err := strconv.ParseUint(element[6], 16, 16)
	return err == nil && to == from|1<<15 && element[3] == element[7]
}

// noLoops makes repeated knocks wrong ports.
func noLoops(rules string) string {
	return loop.ReplaceAllStringFunc(rules, func(text string) string {
		e := loop.FindStringSubmatch(text)
		if !isLoop(e) {
			return text
		}
		return fmt.Sprintf("%s%s:%s . %s . %s : 9fff:ffff", e[1], e[2], e[3], e[4], e[5])
	})
}

// noRenewal makes repeated knocks change nothing.
func noRenewal(rules string) string {
	cover := regexp.MustCompile(`burst 20 packets \} (goto \w+)`).FindStringSubmatch(rules)
	if cover == nil {
		return rules
	}
	var stay strings.Builder
	for _, e := range loop.FindAllStringSubmatch(rules, -1) {
		if isLoop(e) {
			fmt.Fprintf(&stay, "\t\tmeta priority %s:%s meta l4proto %s th dport %s %s\n", e[2], e[3], e[4], e[5], cover[1])
		}
	}
	return lookUp.ReplaceAllString(rules, "$0"+stay.String())
}

// mutants are faults that a backend could have, each in one of the things that
// an automaton does.
var mutants = []struct {
	fault string
	edit  func(string) string
}{
	{"another last knock opens the doors", edit(`(\. tcp \. )(\d+ : [c-f]\w{3}:)`, "${1}6$2")},
	{"a wrong port does not count as a first knock", edit(`(?m)^.*& 8000:0 \. .*map @step\n`, "")},
	{"a source's state is not replaced", edit(`delete @at[46] \{[^}]*\} ?`, "")},
	{"progress lasts too long", edit(`(add @at[46] \{[^}]* timeout )\w+`, "${1}10m")},
	{"progress lasts too short", edit(`(add @at[46] \{[^}]* timeout )\w+`, "${1}40ms")},
	{"a grant lasts too long", edit(`(@(?:once|many)[46] \{[^}]* timeout )\w+`, "${1}10m")},
	{"a grant for one connection admits more", edit(`(?:delete @once[46] \{[^}]*\} ?)+(goto admit)|limit rate 1/week burst 2 packets `, "$1")},
	{"an admitted packet is not known again", edit(`(?m)^.*tcp dport \. meta priority @syns[46] goto pass\n`, "")},
	{"the sequence number is not looked at", edit(`meta priority set jhash tcp sequence mod 4294967295 seed 0x1`, "meta priority set 1:1")},
	{"the budget of attempts is too large", edit(`burst 20 packets \} goto`, "burst 23 packets } goto")},
	{"a wrong port takes nothing from the budget", edit(`(?m)^(\t\t)(meta priority set jhash ip)`, "${1}th dport 1001-1005 $2")},
	{"the budget has no end", edit(`(burst 20 packets \}) goto \w+`, "$1 continue")},
	{"a source that has begun goes on with an empty budget", begunFirst},
	{"what is over the budget forgets nothing", edit(`(?s)(chain spent[46] \{\n).*?(\t\tgoto)`, "$1$2")},
	{"the budget is a /64's", edit(`(jhash ip6 saddr & ffff:ffff:ffff):: `, "$1:ffff:: ")},
	{"the budget is a single address's", edit(`(jhash ip6 saddr) & ffff:ffff:ffff:: `, "$1 ")},
	{"a stray packet loses no grant", edit(`(?m)^.*jump forfeit\n`, "")},
	{"a repeated knock costs the grant", edit(`(?m)^.*@kept(?:_echo)? return\n`, "")},
	{"anybody may knock", edit(`(?m)^.*saddr != @from_.*\n`, "")},
	{"what comes again loses progress", noLoops},
	{"what comes again does not renew the time", noRenewal},
	{"what is admitted is not marked", edit(`(?m)^.*mark set .*\n`, "")},
	{"its connection is not marked", edit(`(?m)^.*ct mark set .*\n`, "")},
	{"the packet is marked, too, that allow takes", edit(`(?s)(chain allow(?:_original)? \{\n)`, "${1}\t\tct mark set 0x1000\n")},
	{"a mask is forgotten", edit(` & (?:255\.255\.255\.0|ffff:ffff:ffff:ffff::)`, "")},
	{"a service is hidden on every address", edit(`(?m)^.*map @service_at.*\n`, "")},
	{"a user's networks are not asked for", edit(`(?m)^.*@networks_.*\n`, "")},
	{"a ping with a token is a knock, too", edit(`(?m)^\t\tmeta priority fffe:0 goto token\n`, "")},
	{"the port of keys is one of the others", edit(`(?m)^\t\t\t(tcp|udp) \. 5555 : goto .*\n`, "")},
	{"a token leaves the progress of its source", edit(`(chain key_[^{]*\{\n)\t\tjump forget\n`, "$1")},
	{"a token gives nothing", edit(`(?s)(chain given_[^{]*\{\n).*?(\t\tgoto answered)`, "$1$2")},
	{"a closing takes no grant", edit(`(?s)(chain (?:close|shut)_[^{]*\{\n(?:\t\t(?:ip|jump|counter)[^\n]*\n)*).*?(\t\tgoto)`, "$1$2")},
	{"what a closing has ended goes on", edit(`(?m)^.*fib daddr type local goto ended\n`, "")},
	{"what is opened again stays ended", edit(`(?m)^.* map @closed update @since[46] .*\n`, "")},
	{"a token that closes a door opens it", edit(`(?m)^\t\tmeta priority & 8000:0 != none goto shut_.*\n`, "")},
	{"a rule is about every interface", edit(`iifname @interfaces`, `iifname != "lo"`)},
}

// TestFaults proves that the suite finds what it is there to find.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, m := range mutants {
		t.Run(m.fault, func(t *testing.T) {
			t.Parallel()
			if f, _ := find(t, mutant{edit: m.edit}); f == nil {
				t.Error("the suite has not noticed it")
			}
		})
	}
}

// A forgetful backend names a grant by its service and its door's name alone: it
// does not see that the door has changed.
type forgetful struct {
	nftables.Backend
	machine *automaton.Machine // the one that was applied, with its own names
}

func (b *forgetful) Apply(m *automaton.Machine) error {
	b.machine = m
	return b.Backend.Apply(renamed(m))
}

// ReadSources returns the grants as the suite knows them.
func (b *forgetful) ReadSources(status *firewall.Status) error {
	if err := b.Backend.ReadSources(status); err != nil {
		return err
	}
	names := map[automaton.GrantID]automaton.GrantID{}
	for i, g := range renamed(b.machine).Grants {
		names[g.ID] = b.machine.Grants[i].ID
	}
	for i := range status.Grants {
		status.Grants[i].ID = names[status.Grants[i].ID]
	}
	return nil
}

// renamed returns a machine whose grants last as long as their doors' names do.
func renamed(m *automaton.Machine) *automaton.Machine {
	other := *m
	other.Grants = slices.Clone(m.Grants)
	for i := range other.Grants {
		g := &other.Grants[i]
		name := fnv.New32a()
		fmt.Fprint(name, m.Doors[g.Door].Name, m.Services[g.Service].String())
		g.ID = automaton.GrantID(name.Sum32()>>3 | 0x10001) // of 29 bits, and as nft prints it
	}
	return &other
}

// TestForgetful proves that the suite changes doors whose grants are held.
func TestForgetful(t *testing.T) {
	t.Parallel()
	if f, _ := find(t, &forgetful{}); f == nil {
		t.Error("the suite has not noticed that a grant outlives a change of its door")
	} else {
		t.Log(f)
	}
}

// find searches until there is a difference, but not for long. Policies in whose rules a
// fault changes nothing are passed over.
func find(t *testing.T, b firewall.Backend) (*failure, *search) {
	t.Helper()
	subject, err := newSubject(b)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	// A rule set that is loaded as text takes what sources have earned along.
	_, text := b.(mutant)
	s := &search{subject: subject, seed: seed(t), still: text}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	for s.counts.packets < 20000 {
		f, err := s.round()
		if errors.Is(err, errNoFault) && s.rounds < 1000 {
			continue
		}
		if err != nil {
			t.Errorf("seed %d, policy %d: %v", s.seed, s.rounds-1, err)
			return nil, s
		}
		if f != nil {
			t.Logf("seed %d: found under policy %d", s.seed, s.rounds)
			return f, s
		}
	}
	t.Logf("seed %d: %s", s.seed, &s.counts)
	return nil, s
}

// TestShrink proves that what is found is made small enough to read.
func TestShrink(t *testing.T) {
	t.Parallel()
	m := mutants[0]
	b := mutant{edit: m.edit, any: true} // parts of a policy are tried
	found, s := find(t, b)
	if found == nil {
		t.Fatal("the suite has not noticed that " + m.fault)
	}
	small, err := shrink(s.subject, found)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(small)
	// Four knocks at most, and the connection or a stray before them.
	if n := len(small.trial.scenario); n > 6 || len(small.plan.doors) > 2 {
		t.Errorf("%d packets to %d doors are left", n, len(small.plan.doors))
	}
	if text := small.String(); !strings.Contains(text, "differs") && !strings.Contains(text, "after packet") {
		t.Errorf("the report does not say what differs:\n%s", text)
	}
}
