package automaton_test

import (
	"net/netip"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// grantPolicy returns a policy of one door with some keys, and more after it.
func grantPolicy(door, more string) string {
	return "version: 1\nposture: closed\ndoors:\n  " + door + "\n" + more
}

const grantDoor = "a: {service: 22, knock: {sequence: [1, 2]}}"

// grantChanges are policies after the one of grantDoor alone, and whether what
// its door has granted still counts.
var grantChanges = []struct {
	what, policy string
	same         bool
}{
	{"nothing", grantPolicy(grantDoor, ""), true},
	{"another door before it", grantPolicy("b: {service: 80, knock: {sequence: [3]}}", "  "+grantDoor), true},
	{"another door to the service", grantPolicy("b: {service: 22, knock: {sequence: [3]}, open_for: 1m}", "  "+grantDoor), true},
	{"another name", grantPolicy("b: {service: 22, knock: {sequence: [1, 2]}}", ""), true},
	{"slower knocks", grantPolicy("a: {service: 22, knock: {sequence: [1, 2], step_timeout: 9s, retransmits: reset}}", ""), true},
	{"other answers and lines", grantPolicy(grantDoor, "cover: reset\nlog: {target: none}\nallow: [{service: 443}]"), true},
	{"another service as well", grantPolicy("a: {service: [22, 80], knock: {sequence: [1, 2]}}", ""), true},

	{"other knocks", grantPolicy("a: {service: 22, knock: {sequence: [1, 3]}}", ""), false},
	{"another time", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, open_for: 1m}", ""), false},
	{"any number of connections", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, admit: any}", ""), false},
	{"forfeit", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, forfeit: true}", ""), false},
	{"only some", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, from: 198.51.100.0/24}", ""), false},
	{"on one address", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, address: 192.0.2.1}", ""), false},
	{"on another host", grantPolicy("a: {service: 22, knock: {sequence: [1, 2]}, forward: 10.0.0.1:22}", ""), false},
	{"a network is one source", grantPolicy(grantDoor, "source: {ipv4: 24}"), false},
	{"its door is gone, another opens the service", grantPolicy("b: {service: 22, knock: {sequence: [3]}}", ""), false},
}

// TestGrantNames: a grant has the same name in another policy if and only if its
// door grants the same there, to the same sources, for the same knocks.
func TestGrantNames(t *testing.T) {
	id := compile(t, grantPolicy(grantDoor, "")).Grants[0].ID
	for _, test := range grantChanges {
		if got := compile(t, test.policy).Grant(id) != nil; got != test.same {
			t.Errorf("%s: the grant is there: %v", test.what, got)
		}
	}
}

// TestReplace: when the policy is replaced, a grant counts as long as its door
// grants the same. It takes nothing but that: where the policy comes back, so do
// grants whose time is not over.
func TestReplace(t *testing.T) {
	first := compile(t, grantPolicy(grantDoor, ""))
	for _, test := range grantChanges {
		t.Run(test.what, func(t *testing.T) {
			r := automaton.NewReference(first)
			sport := uint16(1)
			ask := func(at time.Duration, ports ...uint16) (v automaton.Verdict) {
				for _, port := range ports {
					sport++
					v = r.Step(at, automaton.Input{
						Source: netip.MustParseAddr("198.51.100.0"), Dest: netip.MustParseAddr("192.0.2.1"),
						Port: policy.Port{Protocol: policy.TCP, Number: port}, SourcePort: sport,
					})
				}
				return v
			}
			ask(0, 1, 2)
			r.Replace(compile(t, test.policy))
			held := len(r.SourceState(netip.MustParseAddr("198.51.100.0")).Grants)
			if (held == 1) != test.same {
				t.Errorf("the source holds %d grants", held)
			}
			if v := ask(time.Second, 22); v.Admitted != test.same {
				t.Errorf("admitted: %v", v.Admitted)
			}
			r.Replace(first)
			if v := ask(9*time.Second, 22); v.Admitted == test.same {
				t.Errorf("under the first policy again, after %v, admitted: %v", test.same, v.Admitted)
			}
		})
	}
}
