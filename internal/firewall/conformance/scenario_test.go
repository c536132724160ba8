package conformance

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// Not even two ordinary scenarios whose sources share a budget by a hash use it up.
// A third, among some eighty sources and as many buckets as there are, is seldom met,
// and more seldom all at the same moment.
func TestScenariosSpendLittle(t *testing.T) {
	s, err := newSubject(picky{})
	if err != nil {
		t.Fatal(err)
	}
	most := 0
	for i := range uint64(200) {
		r := rand.New(rand.NewPCG(1, i))
		_, m, err := s.draw(r, []block{0})
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(write(r, &s.pace, m, 0)))
	}
	if most != longest || 2*longest >= automaton.Attempts.Burst {
		t.Errorf("a scenario has up to %d packets, for %d and a budget of %d", most, longest, automaton.Attempts.Burst)
	}
}

// Floods spend the budget, from several sources where they share it, and go on.
func TestFloodsSpend(t *testing.T) {
	for name, parameters := range map[string]automaton.Parameters{"every input": exact, "first knocks": confirmed} {
		t.Run(name, func(t *testing.T) {
			s, err := newSubject(picky{parameters: func(*policy.Policy) automaton.Parameters { return parameters }})
			if err != nil {
				t.Fatal(err)
			}
			const n = 200
			refused, forgot, several := 0, 0, 0
			for i := range uint64(n) {
				r := rand.New(rand.NewPCG(1, i))
				_, m, err := s.draw(r, []block{0})
				if err != nil {
					t.Fatal(err)
				}
				o := newModel(m)
				owners, sources := map[netip.Prefix]bool{}, map[netip.Addr]bool{}
				var all outcome
				for _, e := range writeFlood(r, &s.pace, m, 0) {
					v := o.step(span{from: e.at, to: e.at}, e.probe)
					owners[o.owner(e.probe.src)], sources[m.Policy.Source.Mask(e.probe.src)] = true, true
					all.refused, all.forgot = all.refused || v.refused, all.forgot || v.forgot
				}
				if len(owners) != 1 {
					t.Fatalf("policy %d: the flood is of %d budgets", i, len(owners))
				}
				count := func(n *int, is bool) {
					if is {
						*n++
					}
				}
				count(&refused, all.refused)
				count(&forgot, all.forgot)
				count(&several, len(sources) > 1)
			}
			t.Logf("of %d floods %d are refused, %d leave one where it was, and %d are of several sources", n, refused, forgot, several)
			if refused < n/2 || name == "every input" && forgot < n/10 || several < n/10 {
				t.Error("those are too few")
			}
		})
	}
}

// A scenario without a packet could not be played.
func TestWriterAddsPackets(t *testing.T) {
	s, err := newSubject(picky{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(200) {
		r := rand.New(rand.NewPCG(1, i))
		_, m, err := s.draw(r, []block{0})
		if err != nil {
			t.Fatal(err)
		}
		w := newWriter(r, &s.pace, m, 0)
		for n := range 20 {
			w.skill = float64(n % 2) // the first leads nowhere
			if w.next(w.senders[0]); len(w.events) != n+1 {
				t.Fatalf("policy %d: %d packets after %d", i, len(w.events), n+1)
			}
		}
	}
}
