//go:build linux

package impair

import (
	"slices"
	"time"
)

// Counts is what a relay has done to the packets of one way.
type Counts struct {
	Seen       int // packets that came
	Lost       int // of them, those it has lost
	Duplicated int // of the others, those it has sent twice
	Reordered  int // packets and copies that it has held back

	// Dropped is what it had no room for, or could not deliver because the
	// other end was down. That is no part of the impairment: a measurement is
	// worth nothing unless it is 0.
	Dropped int
}

// mostUnderWay is how many packets a way holds at most: at 40 ms more than
// 400,000 packets per second, or 4 Gbit/s.
const mostUnderWay = 1 << 14

// A way is one direction of an impaired link: what happens to packets, and
// those under way. It has no clock.
type way struct {
	delay, hold time.Duration
	fates       *fates
	counts      Counts

	// Packets wait in two lanes. In each all take the same time, so that the
	// first to come is the first to leave, whatever the clock has said.
	onTime, held lane
}

// A lane is packets in the order in which they come and go.
type lane []delayed

type delayed struct {
	due    time.Time
	packet []byte
}

func newWay(impairment Impairment, number int) *way {
	w := &way{}
	w.change(impairment, number)
	return w
}

// change is for the packets that are accepted afterwards. Those under way keep
// their time, and none of the others comes before them in the same lane.
func (w *way) change(impairment Impairment, number int) {
	w.delay, w.hold, w.fates = impairment.Delay, impairment.Hold, newFates(impairment, number)
}

// accept takes a packet that came at a time. It does not keep the slice.
func (w *way) accept(packet []byte, at time.Time) {
	w.counts.Seen++
	f := w.fates.next()
	if f.lost {
		w.counts.Lost++
		return
	}
	packet = slices.Clone(packet)
	w.enter(packet, at, f.held[0])
	if f.duplicate {
		w.counts.Duplicated++
		w.enter(packet, at, f.held[1])
	}
}

func (w *way) enter(packet []byte, at time.Time, held bool) {
	if len(w.onTime)+len(w.held) >= mostUnderWay {
		w.counts.Dropped++
		return
	}
	due := at.Add(w.delay)
	if !held {
		w.onTime = append(w.onTime, delayed{due, packet})
		return
	}
	w.counts.Reordered++
	w.held = append(w.held, delayed{due.Add(w.hold), packet})
}

// leave appends to packets those that are due, the earliest first.
func (w *way) leave(packets [][]byte, now time.Time) [][]byte {
	for {
		first := w.first()
		if first == nil || (*first)[0].due.After(now) {
			return packets
		}
		packets = append(packets, (*first)[0].packet)
		(*first)[0] = delayed{} // the lane's memory may live on
		*first = (*first)[1:]
	}
}

// next returns when the next packet is due. It is false if there is none.
func (w *way) next() (time.Time, bool) {
	first := w.first()
	if first == nil {
		return time.Time{}, false
	}
	return (*first)[0].due, true
}

// first returns the lane whose first packet is due first, or nil.
func (w *way) first() *lane {
	switch {
	case len(w.onTime) == 0 && len(w.held) == 0:
		return nil
	case len(w.held) == 0:
		return &w.onTime
	case len(w.onTime) == 0 || w.held[0].due.Before(w.onTime[0].due):
		return &w.held
	}
	return &w.onTime
}
