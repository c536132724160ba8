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
		{"nothing known", 0, nil, time.Second, pace{250 * ms, firstGap}},
		{"near", 1 * ms, nil, time.Second, pace{100 * ms, firstGap}},
		{"across an ocean", 80 * ms, nil, time.Second, pace{210 * ms, firstGap}},
		{"by satellite", 600 * ms, nil, time.Second, pace{1250 * ms, firstGap}},
		{"second round", 0, []Try{silent}, time.Second, pace{325 * ms, 12 * ms}},
		{"third round", 0, []Try{silent, silent}, time.Second, pace{422500 * time.Microsecond, 18 * ms}},
		{"refused by somebody near", 80 * ms, []Try{refused(2 * ms)}, time.Second, pace{210 * ms, 12 * ms}},
		{"refused from afar", 0, []Try{refused(200 * ms)}, time.Second, pace{450 * ms, 12 * ms}},
		{"a short memory", 0, []Try{silent, silent}, 20 * ms, pace{422500 * time.Microsecond, 10 * ms}},
	} {
		got := newPace(test.roundTrip)
		for _, try := range test.tries {
			got.slowDown(try, test.stepTimeout)
		}
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
	p := newPace(0)
	for range 100 {
		p.slowDown(silent, time.Minute)
	}
	if want := (pace{maxPatience, 30 * time.Second}); p != want {
		t.Errorf("after many rounds: %+v, want %+v", p, want)
	}
}
