//go:build linux

package impair

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// story returns what happens to the first n packets of a way, a letter for each.
func story(impairment Impairment, way, n int) string {
	var b strings.Builder
	f := newFates(impairment, way)
	for range n {
		switch now := f.next(); {
		case now.lost:
			b.WriteByte('x')
		case now.duplicate:
			b.WriteByte('2')
		case now.held[0]:
			b.WriteByte('h')
		default:
			b.WriteByte('.')
		}
	}
	return b.String()
}

// A share that is asked for is what comes out. The bounds are four standard
// deviations: with 200,000 packets 5 % is told from 5.2 %.
func TestFateShares(t *testing.T) {
	const n = 200_000
	for _, share := range []float64{0, 0.001, 0.02, 0.05, 0.1, 0.3, 0.5, 1} {
		impairment := Impairment{Loss: share, Duplicate: share / 2, Reorder: share / 3, Seed: 7}
		for way := range 2 {
			var lost, duplicate, held, copyHeld, together int
			f := newFates(impairment, way)
			for range n {
				now := f.next()
				lost += one(now.lost)
				duplicate += one(now.duplicate)
				held += one(now.held[0])
				copyHeld += one(now.held[1])
				together += one(now.lost && now.duplicate && now.held[0])
			}
			for _, c := range []struct {
				what string
				got  int
				want float64
			}{
				{"lost", lost, impairment.Loss},
				{"duplicate", duplicate, impairment.Duplicate},
				{"held", held, impairment.Reorder},
				{"copies held", copyHeld, impairment.Reorder},
				// One does not bring the other with it.
				{"all together", together, impairment.Loss * impairment.Duplicate * impairment.Reorder},
			} {
				bound := 4 * math.Sqrt(n*c.want*(1-c.want))
				if off := math.Abs(float64(c.got) - n*c.want); off > bound {
					t.Errorf("way %d, %s: %d of %d, want %.0f, at most %.0f off", way, c.what, c.got, n, n*c.want, bound)
				}
			}
		}
	}
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// A packet's fate is its seed's, its way's and its number's. The same today as
// when a measurement was published.
func TestFateIsFixed(t *testing.T) {
	impairment := Impairment{Loss: 0.1, Duplicate: 0.2, Reorder: 0.3, Seed: 1}
	const want = "h.h2x22h.x.x...hh222.x.hx...22x..h....2..2..xh.2.x.22.h.h.x2"
	if got := story(impairment, 0, 60); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// The other way and the next seed have different stories. Of two
	// that have nothing to do with each other 34 % agree.
	const n = 10_000
	first := story(impairment, 0, n)
	other := impairment
	other.Seed++
	for name, second := range map[string]string{"other way": story(impairment, 1, n), "next seed": story(other, 0, n)} {
		same := 0
		for i := range n {
			same += one(first[i] == second[i])
		}
		if same > n*37/100 {
			t.Errorf("%s: %d of %d packets share their fate", name, same, n)
		}
	}
}

// With more loss the same packets are lost and some more, and what happens to
// the others stays.
func TestFateDependsOnNumber(t *testing.T) {
	less := story(Impairment{Loss: 0.05, Duplicate: 0.1, Reorder: 0.1, Seed: 3}, 0, 1000)
	more := story(Impairment{Loss: 0.2, Duplicate: 0.1, Reorder: 0.1, Seed: 3}, 0, 1000)
	if less == more {
		t.Error("four times the loss has changed nothing")
	}
	for i := range less {
		if more[i] != less[i] && more[i] != 'x' {
			t.Fatalf("packet %d: %c with less loss, %c with more", i, less[i], more[i])
		}
	}
}

func TestImpairmentValidate(t *testing.T) {
	for _, test := range []struct {
		impairment Impairment
		want       string // "" for none
	}{
		{Impairment{}, ""},
		{Impairment{Loss: 1, Duplicate: 1, Reorder: 1, Hold: 1}, ""},
		{Impairment{Reorder: 0.1, Delay: 8}, ""},
		{Impairment{Loss: 5}, "loss 5 is not a share: give a number from 0 to 1"},
		{Impairment{Duplicate: -0.1}, "duplicate -0.1 is not a share: give a number from 0 to 1"},
		{Impairment{Reorder: math.NaN()}, "reorder NaN is not a share: give a number from 0 to 1"},
		{Impairment{Reorder: 0.1}, "reorder 0.1 needs a delay, or a hold: nothing is overtaken that takes no time"},
		{Impairment{Delay: -1}, "delay -1ns, hold 0s: a time cannot be negative"},
		{Impairment{Hold: -1}, "delay 0s, hold -1ns: a time cannot be negative"},
	} {
		got := ""
		if err := test.impairment.validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", fmt.Sprintf("%+v", test.impairment), got, test.want)
		}
	}
}
