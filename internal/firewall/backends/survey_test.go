package backends_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
)

// A fake is a backend whose kernel is a few words. It notes what it is asked.
type fake struct {
	name   string
	loaded bool
	err    error // of Inspect
	remove error
	asked  *[]string
}

func (f fake) note(what string)                                 { *f.asked = append(*f.asked, f.name+" "+what) }
func (f fake) Name() string                                     { return f.name }
func (fake) Machine(*policy.Policy) (*automaton.Machine, error) { return nil, nil }
func (fake) Digest(*automaton.Machine) string                   { return "" }
func (f fake) Apply(*automaton.Machine) error                   { f.note("apply"); return nil }
func (f fake) Remove() error                                    { f.note("remove"); return f.remove }
func (f fake) Inspect() (*firewall.Status, error) {
	f.note("inspect")
	if f.err != nil {
		return nil, f.err
	}
	return &firewall.Status{Loaded: f.loaded}, nil
}

var (
	absent     = &firewall.UnsupportedError{What: "such thing"}
	busy       = &firewall.BusyError{Err: errors.New("others")}
	unreadable = &firewall.UnreadableError{Backend: "b", Err: busy}
)

// TestSurvey: which backend is in use, what is loaded, and what a takeover finds,
// for two backends in any state. One of them is asked once.
func TestSurvey(t *testing.T) {
	state := func(name, state string, asked *[]string) fake {
		f := fake{name: name, asked: asked}
		switch state {
		case "loaded":
			f.loaded = true
		case "absent":
			f.err = absent
		case "busy":
			f.err = busy
		case "unreadable":
			f.err = unreadable
		}
		return f
	}
	for _, test := range []struct {
		a, b                 string // the default one, the other
		inUse, loaded        string // "!": an error; "?": something unread beside it
		takeOverA, takeOverB string
	}{
		{"empty", "empty", "a", "a", "a: nothing", "b: nothing"},
		{"loaded", "empty", "a", "a", "a: itself", "b: nothing, removes a"},
		{"empty", "loaded", "b", "b", "a: nothing, removes b", "b: itself"},
		{"loaded", "loaded", "a", "a b", "a: itself, removes b", "b: itself, removes a"},
		{"absent", "loaded", "b", "b", "!", "b: itself"},
		{"loaded", "absent", "a", "a", "a: itself", "!"},
		{"absent", "absent", "a", "!", "!", "!"},
		{"busy", "loaded", "a", "!", "!", "!"},
		{"empty", "busy", "a", "!", "a: nothing?", "!"},
		{"loaded", "busy", "a", "a?", "a: itself?", "!"},
		{"absent", "busy", "a", "!", "!", "!"},
		{"empty", "unreadable", "a", "!", "!", "!"},
		{"loaded", "unreadable", "a", "a?", "a: itself?", "!"},
	} {
		t.Run(test.a+" "+test.b, func(t *testing.T) {
			var asked []string
			a, b := state("a", test.a, &asked), state("b", test.b, &asked)
			s := backends.Look([]firewall.Backend{a, b})
			check := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: got %q, want %q", what, got, want)
				}
			}
			check("in use", s.InUse().Name(), test.inUse)

			answers, unread, err := s.Loaded()
			var names []string
			for _, a := range answers {
				names = append(names, a.Name())
			}
			got := strings.Join(names, " ")
			switch {
			case err != nil:
				got = "!"
			case unread != nil:
				got += "?"
			}
			check("loaded", got, test.loaded)
			check("asked", strings.Join(asked, ", "), "a inspect, b inspect")

			for _, by := range []fake{a, b} {
				want := map[string]string{"a": test.takeOverA, "b": test.takeOverB}[by.name]
				takeover, err := s.TakeOver(by)
				if err != nil {
					check("taken over by "+by.name, "!", want)
					continue
				}
				got := by.name + ": nothing"
				if takeover.Before.Loaded {
					got = by.name + ": itself"
				}
				if takeover.Unread != nil {
					got += "?"
				}
				asked = nil
				removed, err := takeover.Apply(nil)
				if err != nil {
					t.Error(err)
				}
				for _, other := range removed {
					got += ", removes " + other
				}
				check("taken over by "+by.name, got, want)
				order := []string{by.name + " apply"}
				for _, other := range removed {
					order = append(order, other+" remove")
				}
				if !slices.Equal(asked, order) {
					t.Errorf("taken over by %s: did %q", by.name, asked)
				}
			}
		})
	}
}

// TestLeftover: rules of another backend that cannot be removed are an error that
// says that the new ones are loaded.
func TestLeftover(t *testing.T) {
	var asked []string
	a := fake{name: "a", asked: &asked}
	b := fake{name: "b", asked: &asked, loaded: true, remove: busy}
	takeover, err := backends.Look([]firewall.Backend{a, b}).TakeOver(a)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := takeover.Apply(nil)
	var leftover *backends.LeftoverError
	if !errors.As(err, &leftover) || leftover.Backend != "b" || !errors.Is(err, busy) || len(removed) > 0 {
		t.Errorf("removed %q, error %v", removed, err)
	}
	if got := fmt.Sprint(asked); got != "[a inspect b inspect a apply b remove]" {
		t.Errorf("did %s", got)
	}
}
