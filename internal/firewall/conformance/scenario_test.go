package conformance

import (
	"math/rand/v2"
	"testing"
)

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
