//go:build linux

package impair

import (
	"slices"
	"testing"
	"time"
)

// pass sends packets 0 to n-1 through a way, one every gap, and returns when
// which ones leave, by the way's own word of when it is to be looked at.
func pass(w *way, n int, gap time.Duration) (numbers []int, after []time.Duration) {
	begin := time.Unix(1000, 0)
	look := func(now time.Time) {
		for _, p := range w.leave(nil, now) {
			number := int(p[0])<<8 | int(p[1])
			numbers = append(numbers, number)
			after = append(after, now.Sub(begin.Add(time.Duration(number)*gap)))
		}
	}
	buffer := make([]byte, 2) // as the ring's, it does not last
	for i := range n {
		at := begin.Add(time.Duration(i) * gap)
		for due, some := w.next(); some && due.Before(at); due, some = w.next() {
			look(due)
		}
		buffer[0], buffer[1] = byte(i>>8), byte(i)
		w.accept(buffer, at)
	}
	for due, some := w.next(); some; due, some = w.next() {
		look(due)
	}
	return numbers, after
}

// Every packet takes the time that its fate says, to the nanosecond, and
// nothing else happens to it.
func TestWay(t *testing.T) {
	const n, delay, hold = 10_000, 40 * time.Millisecond, 10 * time.Millisecond
	impairment := Impairment{Delay: delay, Hold: hold, Loss: 0.1, Duplicate: 0.1, Reorder: 0.1, Seed: 5}
	w := newWay(impairment, 0)
	numbers, after := pass(w, n, time.Millisecond)

	got := make([][]time.Duration, n)
	for i, number := range numbers {
		got[number] = append(got[number], after[i])
	}
	want := Counts{Seen: n}
	f := newFates(impairment, 0)
	for number := range n {
		fate := f.next()
		var times []time.Duration
		for copy := range 2 {
			switch {
			case fate.lost || copy == 1 && !fate.duplicate:
			case fate.held[copy]:
				times = append(times, delay+hold)
				want.Reordered++
			default:
				times = append(times, delay)
			}
		}
		want.Lost += one(fate.lost)
		want.Duplicated += one(len(times) == 2)
		slices.Sort(times)
		if !slices.Equal(got[number], times) {
			t.Fatalf("packet %d has taken %v, want %v", number, got[number], times)
		}
	}
	if w.counts != want {
		t.Errorf("counted %+v, want %+v", w.counts, want)
	}
}

// A packet that is held back comes behind those of the time that it is held,
// and no others.
func TestWayOvertaken(t *testing.T) {
	w := newWay(Impairment{Delay: 40 * time.Millisecond, Hold: 10 * time.Millisecond, Reorder: 0.01, Seed: 4}, 0)
	numbers, _ := pass(w, 1000, time.Millisecond)
	found := 0
	for i, number := range numbers {
		overtook := 0
		for _, earlier := range numbers[:i] {
			overtook += one(earlier > number)
		}
		switch {
		case overtook == 0:
		// One less for each of those that is held back itself; and the one
		// that is due in the same instant may go first.
		case overtook < 8 || overtook > 10:
			t.Errorf("packet %d was overtaken by %d, want about 10", number, overtook)
		default:
			found++
		}
	}
	if found == 0 || found != w.counts.Reordered {
		t.Errorf("%d packets were overtaken, %d held back", found, w.counts.Reordered)
	}
}

// The order in which packets come is kept although the clock went back.
func TestWayKeepsOrder(t *testing.T) {
	w := newWay(Impairment{Delay: time.Second}, 0)
	begin := time.Unix(1000, 0)
	for i := range 100 {
		w.accept([]byte{byte(i)}, begin.Add(-time.Duration(i)*time.Millisecond))
	}
	got := w.leave(nil, begin.Add(time.Second))
	for i, p := range got {
		if int(p[0]) != i {
			t.Fatalf("place %d is packet %d's", i, p[0])
		}
	}
	if len(got) != 100 {
		t.Errorf("%d packets came out", len(got))
	}
}

// What there is no room for is counted, and there is room again later.
func TestWayIsBounded(t *testing.T) {
	w := newWay(Impairment{Delay: time.Second, Duplicate: 1}, 0)
	begin := time.Unix(1000, 0)
	fill := func() {
		for range mostUnderWay {
			w.accept([]byte{0}, begin)
		}
	}
	fill()
	if want := (Counts{Seen: mostUnderWay, Duplicated: mostUnderWay, Dropped: mostUnderWay}); w.counts != want {
		t.Errorf("counted %+v, want %+v", w.counts, want)
	}
	if n := len(w.leave(nil, begin.Add(time.Second))); n != mostUnderWay {
		t.Errorf("%d packets came out of %d", n, mostUnderWay)
	}
	fill()
	if n := len(w.leave(nil, begin.Add(time.Second))); n != mostUnderWay {
		t.Errorf("later %d packets came out of %d", n, mostUnderWay)
	}
}
