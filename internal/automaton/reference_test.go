package automaton_test

import (
	"net/netip"
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
		"and does not prolong the step": {door(""), script{
			{0, "1", false}, {2 * second, "1", false}, {3 * second, "2", false}, {3 * second, "3", false}, {3 * second, "22", false},
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

// TestBudget: a source that knocks and resets in a loop is soon ignored, and
// heard again after a pause.
func TestBudget(t *testing.T) {
	m := compile(t, "version: 1\nposture: closed\ndoors: {a: {service: 22, knock: {sequence: [1, 2]}}}\n")
	r := automaton.NewReference(m)
	knock := func(at time.Duration) automaton.StateID {
		in := automaton.Input{Source: netip.MustParseAddr("192.0.2.7"), Port: policy.Port{Protocol: policy.TCP, Number: 1}}
		to := r.Step(at, in).To
		in.Port.Number = 9
		r.Step(at, in)
		return to
	}
	for i := range automaton.FirstKnocks.Burst {
		if knock(0) == automaton.Root {
			t.Fatalf("first knock %d of %d was not taken", i+1, automaton.FirstKnocks.Burst)
		}
	}
	if knock(0) != automaton.Root {
		t.Error("the budget has no end")
	}
	refill := time.Second / time.Duration(automaton.FirstKnocks.Rate)
	if knock(refill-1) != automaton.Root {
		t.Error("the budget fills up too early")
	}
	if knock(refill) == automaton.Root || knock(refill) != automaton.Root {
		t.Error("after a pause one first knock must be taken, and no more")
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
