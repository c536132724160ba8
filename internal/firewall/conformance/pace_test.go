package conformance

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// picky is a backend that cannot express some policies.
type picky struct {
	firewall.Backend
	refuses    func(*policy.Policy) bool
	parameters func(*policy.Policy) automaton.Parameters
}

func (b picky) Machine(p *policy.Policy) (*automaton.Machine, error) {
	if b.refuses != nil && b.refuses(p) {
		return nil, &firewall.InexpressibleError{Backend: "picky"}
	}
	m, err := automaton.Compile(p)
	if err == nil && b.parameters != nil {
		m.Parameters = b.parameters(p)
	}
	return m, err
}

func inParts(p *policy.Policy) bool {
	return slices.ContainsFunc(p.Doors, func(d policy.Door) bool {
		return d.OpenFor%time.Second != 0 || d.Knock.StepTimeout%time.Second != 0
	})
}

func TestSubjectPace(t *testing.T) {
	for name, test := range map[string]struct {
		refuses func(*policy.Policy) bool
		first   string // of its timeouts
		err     string
	}{
		"nothing":           {nil, "100ms", ""},
		"parts of a second": {inParts, "1s", ""},
		"everything":        {func(*policy.Policy) bool { return true }, "", "no timeouts that the backend can keep"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := newSubject(picky{refuses: test.refuses})
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s.timeouts[0] != test.first || s.classic {
				t.Errorf("timeouts %v, classic %t", s.timeouts, s.classic)
			}
		})
	}
}

// What a backend refuses is drawn again, and counted.
func TestSubjectDrawsAgain(t *testing.T) {
	s, err := newSubject(picky{refuses: func(p *policy.Policy) bool {
		return slices.ContainsFunc(p.Doors, func(d policy.Door) bool { return len(d.From) > 0 })
	}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 50
	for i := range uint64(n) {
		_, m, err := s.draw(rand.New(rand.NewPCG(1, i)), []block{0})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range m.Policy.Doors {
			if len(d.From) > 0 {
				t.Fatal("it drew what the backend refuses")
			}
		}
	}
	if s.drawn < n+n/10 || s.drawn > 5*n {
		t.Errorf("%d policies drawn for %d", s.drawn, n)
	}
	s.compile = func(*policy.Policy) (*automaton.Machine, error) { return nil, errors.New("the disk is full") }
	if _, _, err := s.draw(rand.New(rand.NewPCG(1, 0)), []block{0}); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("error %v: a backend that fails is not one that refuses", err)
	}
}

// A backend with rules of their own for the recipe gets policies like it.
func TestSubjectClassic(t *testing.T) {
	isRecipe := func(p *policy.Policy) bool {
		return p.Posture == policy.Closed && len(p.Interfaces) == 0 && p.Source == policy.Source{IPv4: 32, IPv6: 128} &&
			!slices.ContainsFunc(p.Doors, func(d policy.Door) bool {
				return !d.Forfeit || len(d.Services) > 1 || d.Admit != policy.AdmitOne || d.Knock.Retransmits != policy.RetransmitsReset
			})
	}
	s, err := newSubject(picky{parameters: func(p *policy.Policy) automaton.Parameters {
		if isRecipe(p) {
			return recipe
		}
		return confirmed
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for i := range uint64(100) {
		p, m, err := s.draw(rand.New(rand.NewPCG(1, i)), []block{0})
		if err != nil {
			t.Fatal(err)
		}
		if p.classic && m.Parameters != recipe {
			t.Fatalf("this is not the recipe:\n%s", p.text())
		}
		if m.Parameters == recipe {
			got++
		}
	}
	if got < 15 || got > 50 {
		t.Errorf("%d of 100 policies are like the recipe", got)
	}
}
