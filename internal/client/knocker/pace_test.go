package knocker

import (
	"errors"
	"syscall"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	silent, refused := Try{Err: errors.New("no answer")}, func(after time.Duration) Try {
		return Try{Waited: after, Refused: true, Err: syscall.ECONNREFUSED}
	}
	for _, test := range []struct {
		name        string
		roundTrip   time.Duration
		tries       []Try
		stepTimeout time.Duration
		want        pace
	}{
		{"nothing known", 0, nil, time.Second, pace{patience: 250 * ms, gap: firstGap}},
		{"near", 1 * ms, nil, time.Second, pace{patience: 100 * ms, gap: firstGap}},
		{"across an ocean", 80 * ms, nil, time.Second, pace{patience: 210 * ms, gap: firstGap}},
		{"by satellite", 600 * ms, nil, time.Second, pace{patience: 1250 * ms, gap: firstGap}},
		{"second round", 0, []Try{silent}, time.Second, pace{patience: 325 * ms, gap: 12 * ms}},
		{"third round", 0, []Try{silent, silent}, time.Second, pace{patience: 422500 * time.Microsecond, gap: 18 * ms}},
		{"refused by a host nearby", 80 * ms, []Try{refused(2 * ms)}, time.Second, pace{patience: 210 * ms, gap: 12 * ms}},
		{"refused from afar", 0, []Try{refused(200 * ms)}, time.Second, pace{patience: 450 * ms, gap: 12 * ms}},
		{"a short memory", 0, []Try{silent, silent}, 20 * ms, pace{patience: 422500 * time.Microsecond, gap: 10 * ms}},
	} {
		got := newPace(test.roundTrip)
		for _, try := range test.tries {
			got.slowDown(try, test.stepTimeout)
		}
		if got.patience != test.want.patience || got.gap != test.want.gap || got.rest != 0 {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	p := newPace(0)
	gaps, rests := map[time.Duration]bool{}, map[time.Duration]bool{}
	short := 0
	for range 100 {
		p.slowDown(silent, time.Minute)
		if p.wait() < retransmit {
			short++
		}
		if p.gap < secondGap || p.gap > 30*time.Second || p.rest < 0 || p.rest > maxRest {
			t.Fatalf("out of bounds: %+v", p)
		}
		gaps[p.gap], rests[p.rest] = true, true
	}
	if p.patience != maxPatience || p.longest != maxRest || p.widest != 30*time.Second {
		t.Errorf("after many rounds: %+v", p)
	}
	if short < 70 || short > 90 { // the system may send a SYN again in the others
		t.Errorf("%d rounds are short", short)
	}
	if len(gaps) < 90 || len(rests) < 90 { // there is chance in it
		t.Errorf("%d gaps and %d rests", len(gaps), len(rests))
	}
}
