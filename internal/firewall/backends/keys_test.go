//go:build linux && !(386 || arm || mips || mipsle)

package backends_test

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

// TestEveryKeyMatters: whatever a policy says otherwise than by default, the rules
// of every backend are other rules, or the backend refuses it. A key that a
// backend forgets would change nothing.
func TestEveryKeyMatters(t *testing.T) {
	text, err := os.ReadFile("../../policy/testdata/good/everything.txt")
	if err != nil {
		t.Fatal(err)
	}
	everything := func() *policy.Policy { // in which no key has its default
		p, err := policy.Parse("policy.yaml", txtar.Parse(text).Files[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	// rules returns the rules in every format, or why there are none.
	rules := func(b firewall.Backend, p *policy.Policy) (all string) {
		m, err := b.Machine(p)
		var inexpressible *firewall.InexpressibleError
		switch {
		case errors.As(err, &inexpressible):
			return err.Error()
		case err != nil:
			t.Fatal(err)
		}
		for _, f := range b.(firewall.Renderer).Formats() {
			all += f.Render(m, firewall.Plain)
		}
		return all
	}
	// A backend may cut nothing. It is then asked about all the rest.
	refuses := func(b firewall.Backend, p *policy.Policy) bool {
		_, err := b.Machine(p)
		return err != nil
	}
	withoutKeys := func(p *policy.Policy) *policy.Policy {
		p.Keys, p.Users, p.Doors[0].Knock.Users = policy.Keys{}, nil, nil
		return p
	}
	keeping := func(p *policy.Policy) *policy.Policy {
		p.Doors[0].OnClose = policy.OnCloseKeep
		return p
	}
	ofKeys := []string{"Policy.Keys", "Policy.Users", "Knock.Users"}
	usual, door := policy.New(policy.Guard), policy.NewDoor("")
	for _, level := range []struct {
		of    func(*policy.Policy) any // a pointer to what has the keys
		usual any                      // it with their defaults
	}{
		{func(p *policy.Policy) any { return p }, *usual},
		{func(p *policy.Policy) any { return &p.Admitted }, usual.Admitted},
		{func(p *policy.Policy) any { return &p.Source }, usual.Source},
		{func(p *policy.Policy) any { return &p.Log }, usual.Log},
		{func(p *policy.Policy) any { return &p.Allow[len(p.Allow)-1] }, policy.Allow{}},
		{func(p *policy.Policy) any { return &p.Doors[0] }, door},
		{func(p *policy.Policy) any { return &p.Doors[0].Knock }, door.Knock},
	} {
		usual := reflect.ValueOf(level.usual)
		for i := range usual.NumField() {
			field := usual.Type().Field(i)
			switch {
			case !field.IsExported(), field.Type == reflect.TypeFor[policy.Position](), field.Type == reflect.TypeFor[[]policy.Position]():
				continue
			case field.Name == "Doors", field.Name == "Services", field.Name == "Knock", field.Name == "Sequence":
				continue // there is no default
			case field.Name == "Backend":
				continue // it says who writes the rules, and is no part of them
			case field.Name == "EarlyDrop":
				continue // only with nftables, and under few policies: see its TestEarlyDropOff
			}
			t.Run(usual.Type().Name()+"."+field.Name, func(t *testing.T) {
				for _, b := range backends.All() {
					there, here := everything(), everything()
					reflect.ValueOf(level.of(here)).Elem().Field(i).Set(usual.Field(i))
					if slices.Contains(ofKeys, usual.Type().Name()+"."+field.Name) { // one is not valid without the others
						here = withoutKeys(here)
					}
					if refuses(b, there) {
						there, here = keeping(there), keeping(here)
						if refuses(b, there) {
							t.Fatalf("%s refuses more than that", b.Name())
						}
						if field.Name == "OnClose" {
							continue
						}
					}
					if rules(b, here) == rules(b, there) {
						t.Errorf("%s: the rules are the same for another %s", b.Name(), field.Name)
					}
				}
			})
		}
	}
}

// TestPolicyNamesThem: a policy can name every backend, and no other.
func TestPolicyNamesThem(t *testing.T) {
	const text = "{version: 1, posture: guard, doors: {d: {service: tcp/22, knock: {sequence: [7, 9, 8]}}}, backend: %s}"
	for _, name := range append(backends.Names(backends.All()), "pf") {
		p, err := policy.Parse("policy.yaml", fmt.Appendf(nil, text, name))
		switch {
		case name == "pf" && err == nil:
			t.Error("a policy can name a backend that does not exist")
		case name != "pf" && (err != nil || string(p.Backend) != name):
			t.Errorf("backend: %s: read as %v, %v", name, p, err)
		}
	}
}
