package knocker

import (
	"math"
	"math/rand/v2"
	"time"
)

// A pace is how much time a round takes: between its packets, for the connection,
// and after it.
type pace struct {
	patience time.Duration
	gap      time.Duration
	rest     time.Duration
	widest   time.Duration // the largest gap; after many tries it is drawn below that
	longest  time.Duration // the largest rest, which is drawn below that
	tries    int
}

const (
	// If the round trip time is not known: three round trips across a continent, or one
	// to the other side of the world.
	firstPatience = 250 * time.Millisecond
	minPatience   = 100 * time.Millisecond
	maxPatience   = 3 * time.Second
	// A server that receives on several CPUs handles packets of several flows at the
	// same time, in any order, if they arrive together. Without a gap 40 % of first
	// rounds failed; with this one hardly any.
	firstGap = 300 * time.Microsecond
	// Packets that overtake one another on the internet come within a few
	// milliseconds.
	secondGap = 12 * time.Millisecond
	// crowded is after how many tries it is likely that others knock from the same
	// address, who take no turns with us: each spoils the other's rounds, and all spend
	// one budget. From then on times are random, so that they differ, and rests grow
	// until the budget is enough.
	crowded = 5
	maxRest = 20 * time.Second
)

// newPace is the pace of the first round. roundTrip is 0 if it is not known.
func newPace(roundTrip time.Duration) pace {
	p := pace{patience: firstPatience, gap: firstGap}
	p.adapt(roundTrip)
	return p
}

// adapt fits the patience to a round trip: twice as long, and some more for a
// busy machine at either end.
func (p *pace) adapt(roundTrip time.Duration) {
	if roundTrip > 0 {
		p.patience = min(max(2*roundTrip+50*time.Millisecond, minPatience), maxPatience)
	}
}

// wait is how long to wait for the connection of a round. In a crowd it mostly ends
// before the system sends the SYN again, which would cost more of the budget; the
// other rounds are for a path on which an answer takes longer.
func (p *pace) wait() time.Duration {
	if p.tries >= crowded && p.tries%4 != 0 {
		return min(p.patience, retransmit-50*time.Millisecond)
	}
	return p.patience
}

// slowDown takes more time after a try that failed. A gap wider than half of the
// time after which the server forgets a knock is of no use.
func (p *pace) slowDown(t Try, stepTimeout time.Duration) {
	switch {
	case t.Refused:
		// The round trip is known now; but refusals may come from somewhere nearer, so
		// it may only make the pace slower.
		slow := *p
		slow.adapt(t.Waited)
		p.patience = max(p.patience, slow.patience)
	case t.Err != nil:
		p.patience = min(p.patience*13/10, maxPatience)
	}
	p.tries++
	p.widest = min(max(p.widest*3/2, secondGap), stepTimeout/2)
	p.gap = p.widest
	if p.tries >= crowded {
		// Short gaps are as likely as long ones: they leave others less time to come
		// in between.
		p.gap = time.Duration(float64(p.widest) * math.Pow(float64(secondGap)/float64(max(p.widest, secondGap)), rand.Float64()))
		p.longest = min(max(2*p.longest, p.patience), maxRest)
		p.rest = rand.N(p.longest)
	}
}
