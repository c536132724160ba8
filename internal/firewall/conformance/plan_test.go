package conformance

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// undrawn are the parts of a policy that no plan has, and where they are tested.
var undrawn = map[string]string{
	"Door.Forward":    "the backends' forward_linux_test.go: the suite has one host behind the rules",
	"Door.Masquerade": "as Forward",
	"Policy.Backend":  "cli's testdata/backend.txt: a backend is held to the same policy whatever its key says",
}

// TestSendsToDecoys: ports that the suite sends to are decoys of some policies.
func TestSendsToDecoys(t *testing.T) {
	all, err := Machines(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	policies := map[policy.Port]int{} // of which it is a decoy
	for _, m := range all {
		m.Secret = []byte(hostSecret)
		for _, d := range m.Decoys() {
			if len(d.Path) == 1 {
				policies[d.Path[0]]++
			}
		}
	}
	sent := slices.Concat(ports(strayPorts), ports(servicePorts), ports(knockPorts))
	for _, port := range ports(decoyPorts) {
		if n := policies[port]; !slices.Contains(sent, port) || n < 10 {
			t.Errorf("%v is a decoy of %d of 100 policies", port, n)
		}
	}
}

// TestDecoysMeanNothing: whatever the policy, what finds nothing from Root finds nothing from a
// decoy but the way to a decoy, and what is a first knock is nothing else there. So a source that
// is in one is judged as one with no progress.
func TestDecoysMeanNothing(t *testing.T) {
	all, err := Machines(1, 300)
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		from automaton.StateID
		on   policy.Port
	}
	second := 0
	for i, m := range all {
		m.Secret = fmt.Append(nil, "secret ", i)
		taken := map[automaton.StateID]bool{automaton.Largest: true}
		begins, entries := map[policy.Port]bool{}, map[entry]bool{}
		for _, s := range m.States {
			taken[s.ID] = true
		}
		for _, e := range m.Edges {
			begins[e.On] = begins[e.On] || e.From == automaton.Root
		}
		leads := func(from automaton.StateID, on policy.Port) {
			if begins[on] || entries[entry{from, on}] {
				t.Fatalf("policy %d: %v leads on from decoy %x to two states", i, on, from)
			}
			entries[entry{from, on}] = true
		}
		decoys := map[automaton.StateID]bool{automaton.Root: true}
		for _, d := range m.Decoys() {
			if taken[d.ID] || decoys[d.ID] || !decoys[d.From] {
				t.Fatalf("policy %d: decoy %x is another state, or from one", i, d.ID)
			}
			decoys[d.ID] = true
			if len(d.Path) > 1 {
				second++
			}
			leads(d.From, d.Path[len(d.Path)-1])
			for _, on := range d.Loops {
				leads(d.ID, on)
			}
		}
	}
	if second == 0 {
		t.Error("no decoy has a second knock")
	}
}

// TestPlansDrawEveryKey fails if a policy can have something that the suite never
// draws.
func TestPlansDrawEveryKey(t *testing.T) {
	values := map[string]map[string]bool{}
	var note func(name string, v reflect.Value)
	note = func(name string, v reflect.Value) {
		switch v.Type() {
		case reflect.TypeFor[policy.Position](), reflect.TypeFor[[]policy.Position]():
			return
		case reflect.TypeFor[policy.Policy](), reflect.TypeFor[policy.Allow](), reflect.TypeFor[policy.Door](),
			reflect.TypeFor[policy.Knock](), reflect.TypeFor[policy.Admitted](), reflect.TypeFor[policy.Source](), reflect.TypeFor[policy.Log]():
			for i := range v.NumField() {
				if f := v.Type().Field(i); f.IsExported() {
					note(v.Type().Name()+"."+f.Name, v.Field(i))
				}
			}
			return
		}
		if k := v.Kind(); k == reflect.Slice && (v.Type().Elem() == reflect.TypeFor[policy.Door]() || v.Type().Elem() == reflect.TypeFor[policy.Allow]()) {
			for i := range v.Len() {
				note(name, v.Index(i))
			}
			return
		}
		if values[name] == nil {
			values[name] = map[string]bool{}
		}
		values[name][fmt.Sprint(v)] = true
	}

	r := rand.New(rand.NewPCG(1, 2))
	covers, read := map[policy.Cover]bool{}, 0
	for range 500 {
		drawn := drawPlan(r, []string{"1s", "2s"}, []block{1, 2, 3})
		if chance(r, 0.5) {
			drawn.drawKeys(r, []block{1, 2, 3})
		}
		if chance(r, 0.3) {
			drawn.dropEarly()
		}
		p, err := policy.Parse("plan", []byte(drawn.text()))
		if err != nil {
			continue // doors that no policy can have together
		}
		read++
		covers[p.Cover] = true
		note("Policy", reflect.ValueOf(*p))
	}
	if read < 100 {
		t.Fatalf("only %d of 500 plans are valid", read)
	}
	for name, seen := range values {
		switch _, known := undrawn[name]; {
		case !known && len(seen) < 2:
			t.Errorf("%s has the same value in every plan", name)
		case known && len(seen) > 1:
			t.Errorf("%s is drawn: take it out of undrawn", name)
		}
	}
	for _, c := range policy.Covers() {
		if !covers[c] {
			t.Errorf("no plan has cover: %s", c)
		}
	}
}
