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

// TestStraysAreDecoys: the suite sends to decoys.
func TestStraysAreDecoys(t *testing.T) {
	p, err := policy.Parse("policy.yaml", []byte("version: 1\nposture: closed\ndoors:\n"+
		"  ssh: {service: 22, knock: {sequence: [1001, 1002]}}\n  dns: {service: udp/53, knock: {sequence: [udp/1001, 1002]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	m.Secret = []byte(hostSecret)
	for _, stray := range ports([]string{"7777", "udp/7777"}) {
		if !slices.Contains(ports(strayPorts), stray) || !slices.ContainsFunc(m.Decoys(), func(d automaton.Decoy) bool { return d.Path[0] == stray }) {
			t.Errorf("%v is no stray port, or no decoy", stray)
		}
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
