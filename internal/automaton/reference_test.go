package automaton_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// compile compiles a policy of one posture with the given doors.
func compile(t testing.TB, text string) *automaton.Machine {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A script is a list of inputs from 198.51.100.1 to 192.0.2.1, each from a
// source port of its own, with the verdict expected for each.
type script []struct {
	at       time.Duration
	port     string
	admitted bool
}

func (s script) run(t *testing.T, m *automaton.Machine) {
	t.Helper()
	r := automaton.NewReference(m)
	for i, step := range s {
		port, err := policy.ParsePort(step.port)
		if err != nil {
			t.Fatal(err)
		}
		v := r.Step(step.at, automaton.Input{
			Source: netip.MustParseAddr("198.51.100.1"), Dest: netip.MustParseAddr("192.0.2.1"),
			Port: port, SourcePort: uint16(40000 + i), Sequence: uint32(i),
		})
		if v.Admitted != step.admitted {
			t.Errorf("input %d, %s at %v: admitted %v, want %v", i, step.port, step.at, v.Admitted, step.admitted)
		}
	}
}

const second = time.Second

func TestReference(t *testing.T) {
	door := func(rest string) string {
		return `
version: 1
posture: closed
doors:
  ssh:
    service: tcp/22
    knock: {step_timeout: 3s, sequence: [1, 2, 3]` + rest + "}\n"
	}
	howto := door(", retransmits: reset") + "    forfeit: true\n"
	for name, tc := range map[string]struct {
		policy string
		script script
	}{
		"the right order opens for one connection": {howto, script{
			{0, "1", false}, {1 * second, "2", false}, {2 * second, "3", false}, {3 * second, "22", true}, {4 * second, "22", false},
		}},
		"nothing opens without": {howto, script{{0, "22", false}, {0, "3", false}, {0, "2", false}, {0, "22", false}}},
		"a wrong port starts again": {howto, script{
			{0, "1", false}, {0, "2", false}, {0, "9", false}, {0, "3", false}, {0, "22", false},
		}},
		"a wrong port that is the first knock counts": {howto, script{
			{0, "1", false}, {0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "22", true},
		}},
		"a step may take just under its time": {howto, script{
			{0, "1", false}, {3*second - 1, "2", false}, {6*second - 2, "3", false}, {7 * second, "22", true},
		}},
		"and no longer":    {howto, script{{0, "1", false}, {3 * second, "2", false}, {3 * second, "3", false}, {3 * second, "22", false}}},
		"a grant runs out": {howto, script{{0, "1", false}, {0, "2", false}, {0, "3", false}, {10 * second, "22", false}}},
		"a stray forfeits": {howto, script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "80", false}, {0, "22", false},
		}},
		"a repeat of the last knock forfeits in the how-to": {howto, script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "3", false}, {0, "22", false},
		}},
		"but not where retransmits are ignored": {door("") + "    forfeit: true\n", script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "3", false}, {0, "2", false}, {0, "22", true},
		}},
		"nor does a repeat of the first": {door("") + "    forfeit: true\n", script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "1", false}, {0, "22", true},
		}},
		"a port already knocked is ignored": {door(""), script{
			{0, "1", false}, {0, "1", false}, {0, "2", false}, {0, "1", false}, {0, "22", false}, {0, "3", false}, {0, "22", true},
		}},
		"and renews the step": {door(""), script{
			{0, "1", false}, {2 * second, "1", false}, {5*second - 1, "2", false}, {5 * second, "3", false}, {5 * second, "22", true},
		}},
		"but not once it is over": {door(""), script{
			{0, "1", false}, {0, "2", false}, {3 * second, "22", false}, {3 * second, "3", false}, {3 * second, "22", false},
		}},
		"the service renews it, too": {door(""), script{
			{0, "1", false}, {0, "2", false}, {2 * second, "22", false}, {4 * second, "3", false}, {4 * second, "22", true},
		}},
		"a stray does not forfeit by default": {door(""), script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {0, "80", false}, {0, "22", true},
		}},
		"a new knock renews": {door(""), script{
			{0, "1", false}, {0, "2", false}, {0, "3", false},
			{9 * second, "1", false}, {9 * second, "2", false}, {9 * second, "3", false}, {18 * second, "22", true},
		}},
		"any number while it lasts": {door("") + "    admit: any\n", script{
			{0, "1", false}, {0, "2", false}, {0, "3", false}, {1 * second, "22", true}, {9 * second, "22", true}, {10 * second, "22", false},
		}},
		"a forward edge wins over a repeat": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1, 2, 1, 22, 3]}}
`, script{{0, "1", false}, {0, "2", false}, {0, "1", false}, {0, "22", false}, {0, "3", false}, {0, "22", true}}},
		"doors share their first knocks": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1, 2, 3]}}
  b: {service: udp/53, knock: {sequence: [1, 2, udp/4]}}
`, script{
			{0, "1", false}, {0, "2", false}, {0, "udp/4", false}, {0, "22", false}, {0, "udp/53", true},
		}},
		"two doors open one service": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1, 2]}}
  b: {service: 22, knock: {sequence: [icmp/echo]}}
`, script{{0, "icmp/echo", false}, {0, "22", true}, {0, "22", false}, {0, "1", false}, {0, "2", false}, {0, "22", true}}},
		"each of two doors gives a grant of its own": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1]}, open_for: 5s}
  b: {service: 22, knock: {sequence: [2]}, open_for: 9s}
`, script{
			{0, "1", false}, {0, "2", false}, {0, "22", true}, {0, "22", true}, {0, "22", false},
			{0, "1", false}, {0, "2", false}, {6 * second, "22", true}, {6 * second, "22", false},
			{6 * second, "1", false}, {6 * second, "1", false}, {6 * second, "22", true}, {6 * second, "22", false},
		}},
		"a stray forfeits the grants of both": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1], retransmits: reset}, forfeit: true}
  b: {service: 22, knock: {sequence: [2], retransmits: reset}, forfeit: true}
`, script{{0, "1", false}, {0, "80", false}, {0, "22", false}, {0, "2", false}, {0, "80", false}, {0, "22", false}, {0, "2", false}, {0, "22", true}}},
		"only those who are welcome": {`
version: 1
posture: closed
doors:
  a: {service: 22, knock: {sequence: [1, 2]}, from: 203.0.113.0/24}
`, script{{0, "1", false}, {0, "2", false}, {0, "22", false}}},
		"one connection to each service": {`
version: 1
posture: closed
doors:
  a: {service: [22, 80], knock: {sequence: [1, 2]}}
`, script{{0, "1", false}, {0, "2", false}, {0, "22", true}, {0, "22", false}, {0, "80", true}}},
	} {
		t.Run(name, func(t *testing.T) { tc.script.run(t, compile(t, tc.policy)) })
	}
}

// TestRetransmission tests rule 1: the same packet, and no other, is admitted
// again without a grant.
func TestRetransmission(t *testing.T) {
	m := compile(t, "version: 1\nposture: closed\ndoors: {a: {service: 22, knock: {sequence: [1]}}}\n")
	r := automaton.NewReference(m)
	in := automaton.Input{
		Source: netip.MustParseAddr("2001:db8::1"), Dest: netip.MustParseAddr("2001:db8::2"),
		Port: policy.Port{Protocol: policy.TCP, Number: 1},
	}
	r.Step(0, in)
	in.Port.Number, in.SourcePort, in.Sequence = 22, 5000, 7
	if v := r.Step(0, in); v.Rule != 2 || !v.Admitted {
		t.Fatalf("the first: %+v", v)
	}
	if v := r.Step(automaton.AdmittedFor-1, in); v.Rule != 1 || !v.Admitted {
		t.Errorf("its retransmission: %+v", v)
	}
	other := in
	other.Sequence++
	if v := r.Step(automaton.AdmittedFor-1, other); v.Admitted {
		t.Errorf("another connection from the same port: %+v", v)
	}
	if v := r.Step(automaton.AdmittedFor, in); v.Admitted {
		t.Errorf("much later: %+v", v)
	}
}

// The ports of attempts.
const (
	firstKnock = 1
	lastKnock  = 2
	service    = 22
	wrongPort  = 9
)

// attempts returns a reference with one door, whose progress repeated knocks leave
// where it is with `retransmits: ignore`, and with so large sources.
func attempts(t *testing.T, counted automaton.Counted, retransmits, source string) (*automaton.Reference, automaton.Budget) {
	t.Helper()
	m := compile(t, fmt.Sprintf(`
version: 1
posture: closed
source: %s
doors: {a: {service: 22, admit: any, knock: {sequence: [1, 2], retransmits: %s}}}
`, source, retransmits))
	m.Parameters.Counted = counted
	if counted == automaton.OnlyFirst {
		m.Parameters.Attempts = automaton.FirstKnocks
	}
	return automaton.NewReference(m), m.Parameters.Attempts
}

// send makes an address send a packet to a TCP port at a time.
func send(r *automaton.Reference, at time.Duration, from string, port uint16) automaton.Verdict {
	return r.Step(at, automaton.Input{Source: netip.MustParseAddr(from), Port: policy.Port{Protocol: policy.TCP, Number: port}})
}

// begins reports whether a first knock counts as one.
func begins(r *automaton.Reference, at time.Duration, from string) bool {
	v := send(r, at, from, firstKnock)
	return v.Rule == 5 && v.To != automaton.Root
}

const sender, anySource = "192.0.2.7", "{ipv4: 32, ipv6: 128}"

// TestBudget: a source that has spent its budget cannot begin until it has paused.
func TestBudget(t *testing.T) {
	for _, test := range []struct {
		name    string
		counted automaton.Counted
		input   uint16 // of which all but one of the budget are made
	}{
		{"first knocks, where every input counts", automaton.EveryInput, firstKnock},
		{"wrong ports, where every input counts", automaton.EveryInput, wrongPort},
		{"first knocks, where only they count", automaton.OnlyFirst, firstKnock},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, budget := attempts(t, test.counted, "reset", anySource)
			for range budget.Burst - 1 {
				send(r, 0, sender, test.input)
			}
			if !begins(r, 0, sender) {
				t.Fatalf("first knock %d of %d was not taken", budget.Burst, budget.Burst)
			}
			if begins(r, 0, sender) {
				t.Error("the budget has no end")
			}
			refill := time.Second / time.Duration(budget.Rate)
			if begins(r, refill-1, sender) {
				t.Error("the budget fills up too early")
			}
			if !begins(r, refill, sender) || begins(r, refill, sender) {
				t.Error("after a pause one first knock must be taken, and no more")
			}
		})
	}
}

// TestBudgetSpent: where every input counts, all are wrong ports with an empty budget.
// Where only first knocks count, all else goes on.
func TestBudgetSpent(t *testing.T) {
	for _, test := range []struct {
		counted  automaton.Counted
		then     uint16 // with nothing left, after a first knock
		early    bool   // whether the last knock then opens the door at once
		later    bool   // whether it does when there is one left again
		progress bool   // whether the source has kept its progress till then
	}{
		{automaton.EveryInput, service, false, false, false},
		{automaton.EveryInput, wrongPort, false, false, false},
		{automaton.OnlyFirst, firstKnock, true, false, true},
		{automaton.OnlyFirst, service, true, false, true},
		{automaton.OnlyFirst, wrongPort, false, false, false},
	} {
		r, budget := attempts(t, test.counted, "ignore", anySource)
		for range budget.Burst - 1 {
			send(r, 0, sender, firstKnock)
			if test.counted == automaton.OnlyFirst {
				send(r, 0, sender, wrongPort)
			}
		}
		if test.counted == automaton.EveryInput {
			send(r, 0, sender, firstKnock) // it stays where it was
		} else if !begins(r, 0, sender) {
			t.Fatal("one that was left has not counted")
		}
		if v := send(r, 0, sender, test.then); test.progress != (v.To != automaton.Root) {
			t.Errorf("after %d it has progress: %t", test.then, v.To != automaton.Root)
		}
		if v := send(r, 0, sender, lastKnock); v.Granted != test.early {
			t.Errorf("after %d, with nothing left, the last knock is granted: %t", test.then, v.Granted)
		}
		if v := send(r, time.Second/time.Duration(budget.Rate), sender, lastKnock); v.Granted != test.later {
			t.Errorf("after %d and a pause the last knock is granted: %t", test.then, v.Granted)
		}
	}
}

// TestBudgetCounts: what takes from the budget, and what does not.
func TestBudgetCounts(t *testing.T) {
	for _, test := range []struct {
		name    string
		counted automaton.Counted
		sends   []uint16 // what is sent first
		input   uint16   // then so many times
		counts  bool
	}{
		{"a wrong port", automaton.EveryInput, nil, wrongPort, true},
		{"a repeated knock", automaton.EveryInput, []uint16{firstKnock}, firstKnock, true},
		{"what is admitted", automaton.EveryInput, []uint16{firstKnock, lastKnock}, service, false},
		{"a wrong port, where only first knocks do", automaton.OnlyFirst, nil, wrongPort, false},
		{"a repeated knock, where only first ones do", automaton.OnlyFirst, []uint16{firstKnock}, firstKnock, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, budget := attempts(t, test.counted, "ignore", anySource)
			for _, port := range test.sends {
				send(r, 0, sender, port)
			}
			for range budget.Burst {
				send(r, 0, sender, test.input)
			}
			send(r, 0, sender, wrongPort)
			if begins(r, 0, sender) == test.counts {
				t.Errorf("counted: %t", !test.counts)
			}
		})
	}
}

// TestBudgetOwner: which addresses share a budget.
func TestBudgetOwner(t *testing.T) {
	for _, test := range []struct {
		source, one, other string
		shared             bool
	}{
		{anySource, "192.0.2.7", "192.0.2.8", false},
		{"{ipv4: 24, ipv6: 128}", "192.0.2.7", "192.0.2.8", true},
		{"{ipv4: 24, ipv6: 128}", "192.0.2.7", "192.0.3.7", false},
		{anySource, "2001:db8:1:2::3", "2001:db8:1:ffff::4", true},
		{anySource, "2001:db8:1:2::3", "2001:db8:2:2::3", false},
		{"{ipv4: 32, ipv6: 64}", "2001:db8:1:2::3", "2001:db8:1:ffff::4", true},
		{"{ipv4: 32, ipv6: 32}", "2001:db8:1:2::3", "2001:db8:2:2::3", true},
		{"{ipv4: 32, ipv6: 32}", "2001:db8:1:2::3", "2001:db9:1:2::3", false},
	} {
		r, budget := attempts(t, automaton.EveryInput, "reset", test.source)
		for range budget.Burst {
			send(r, 0, test.one, wrongPort)
		}
		if begins(r, 0, test.one) {
			t.Fatal("the budget has no end")
		}
		if begins(r, 0, test.other) == test.shared {
			t.Errorf("source %s: %s and %s share a budget: %t", test.source, test.one, test.other, !test.shared)
		}
	}
}

// TestNames: the name of a state or a grant depends on nothing but itself.
func TestNames(t *testing.T) {
	const a = "  a: {service: 22, knock: {sequence: [1, 2, 3]}}\n"
	const b = "  b: {service: 80, knock: {sequence: [1, 4]}}\n"
	const head = "version: 1\nposture: closed\ndoors:\n"
	ids := func(text string) (states map[string]automaton.StateID, grants map[string]automaton.GrantID) {
		m := compile(t, text)
		states, grants = map[string]automaton.StateID{}, map[string]automaton.GrantID{}
		for _, s := range m.States {
			key := ""
			for _, p := range s.Path {
				key += " " + p.String()
			}
			states[key] = s.ID
		}
		for _, g := range m.Grants {
			grants[m.Services[g.Service].String()] = g.ID
		}
		return states, grants
	}
	states, grants := ids(head + a + b)
	for _, other := range []string{head + b + a, head + a} {
		states2, grants2 := ids(other)
		for path, id := range states2 {
			if states[path] != id {
				t.Errorf("state%s is %x and %x", path, states[path], id)
			}
		}
		for service, id := range grants2 {
			if grants[service] != id {
				t.Errorf("the grant of %s is %x and %x", service, grants[service], id)
			}
		}
	}
	slower, _ := ids(head + "  a: {service: 22, knock: {sequence: [1, 2, 3], step_timeout: 5s}}\n")
	for path, id := range slower {
		if states[path] == id {
			t.Errorf("state%s has the same name with another timeout", path)
		}
	}
}

// TestBudgetsApart: what may be counted before the rules has a budget of its own, in which
// datagrams are as well where a kernel can tell those that begin something.
func TestBudgetsApart(t *testing.T) {
	m := compile(t, `
version: 1
posture: closed
allow: [{service: tcp/80-90, from: 198.51.100.0/24}]
keys: {port: udp/5}
users: {u: {devices: [d]}}
doors: {a: {service: [22, udp/53], knock: {sequence: [1, udp/2], key: [u]}}}
`)
	early := []policy.Port{{Protocol: policy.TCP, Number: firstKnock}, {Protocol: policy.TCP, Number: wrongPort}, {Protocol: policy.TCP, Number: 53}}
	datagrams := []policy.Port{{Protocol: policy.UDP, Number: 1}, {Protocol: policy.UDP, Number: 85}, {Protocol: policy.UDP, Number: 2}}
	others := []policy.Port{
		{Protocol: policy.TCP, Number: service}, {Protocol: policy.TCP, Number: 85}, {Protocol: policy.UDP, Number: 53},
		{Protocol: policy.UDP, Number: 68}, {Protocol: policy.ICMP},
	}
	spent := func(r *automaton.Reference, port policy.Port) bool {
		return r.Step(0, automaton.Input{Source: netip.MustParseAddr(sender), Port: port}).Rule == 3
	}
	for _, which := range []struct{ apart, udp bool }{{}, {apart: true}, {apart: true, udp: true}} {
		apart, early, others := which.apart, early, others
		if which.udp {
			early = slices.Concat(early, datagrams, []policy.Port{{Protocol: policy.UDP, Number: 5}}) // that of keys
		} else {
			others = slices.Concat(others, datagrams)
		}
		m.Parameters.Early, m.Parameters.EarlyUDP = apart, which.udp
		for _, port := range slices.Concat(early, others, []policy.Port{{Protocol: policy.TCP, Number: 5}}) {
			if got, want := m.Early(port), apart && slices.Contains(early, port); got != want {
				t.Errorf("Early(%v) is %v, want %v", port, got, want)
			}
		}
		for _, by := range [][]policy.Port{early, others} {
			r := automaton.NewReference(m)
			for i := range m.Parameters.Attempts.Burst {
				spent(r, by[i%len(by)])
			}
			for _, port := range slices.Concat(early, others) {
				if got, want := spent(r, port), !apart || slices.Contains(by, port); got != want {
					t.Errorf("after %v, apart %v: the budget for %v is spent: %v, want %v", by, apart, port, got, want)
				}
			}
		}
	}
}

// TestKeyPortBudget: where datagrams are counted apart, those to the port of keys take an
// attempt. They change nothing else until none is left; then they cost their source its
// progress, and no grant.
func TestKeyPortBudget(t *testing.T) {
	m := compile(t, `
version: 1
posture: closed
keys: {port: udp/5}
users: {u: {devices: [d]}}
doors: {a: {service: 22, knock: {sequence: [1, 2], key: [u]}, forfeit: true}}
`)
	from := netip.MustParseAddr(sender)
	for _, counts := range []bool{false, true} {
		m.Parameters.Early, m.Parameters.EarlyUDP = true, counts
		r := automaton.NewReference(m)
		send := func(protocol policy.Protocol, port uint16) automaton.Verdict {
			return r.Step(0, automaton.Input{Source: from, Port: policy.Port{Protocol: protocol, Number: port}})
		}
		send(policy.TCP, 1)
		send(policy.TCP, 2) // and is in the state in which its knocks cost nothing
		for range m.Parameters.Attempts.Burst - 2 {
			if v := send(policy.UDP, 5); v.Rule != 0 || v.From != v.To {
				t.Fatalf("counts %v: junk within the budget: %+v", counts, v)
			}
		}
		v := send(policy.UDP, 5)
		if spent := v.Rule == 3 && v.From != automaton.Root && v.To == automaton.Root; spent != counts {
			t.Errorf("counts %v: junk over the budget: %+v", counts, v)
		}
		if v := send(policy.TCP, 22); !v.Admitted {
			t.Errorf("counts %v: the grant is gone: %+v", counts, v)
		}
	}
}
