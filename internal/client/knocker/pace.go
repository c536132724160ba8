package knocker

import (
	"math/rand/v2"
	"time"
)

// A pace is how much time a round takes: between its packets, for the connection,
// and after it.
type pace struct {
	patience time.Duration
	gap      time.Duration
	rest     time.Duration
	wide     time.Duration // the gap, if it is not left to chance
	tries    int
}

const (
	// Of a round trip nothing is known: this is three to the other end of a
	// continent, or one to the other side of the world.
	firstPatience = 250 * time.Millisecond
	minPatience   = 100 * time.Millisecond
	maxPatience   = 3 * time.Second
	// A server that receives on several CPUs judges packets of several flows at the
	// same time, and in any order, if they come together. Of first rounds without any gap 40 %
	// failed so; with this one hardly any.
	firstGap = 300 * time.Microsecond
	// Packets that overtake one another on the internet come within a few
	// milliseconds.
	secondGap = 12 * time.Millisecond
	// crowded is how many tries make it likely that others knock from the same address,
	// whom we cannot take turns with, and each spoils the other's rounds. Those who do the same thing
	// at the same time must begin to differ then.
	crowded = 5
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

// slowDown takes more time after a try that failed. A gap of half the time after
// which the server forgets a knock is the widest that is any use.
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
	p.wide = min(max(p.wide*3/2, secondGap), stepTimeout/2)
	p.gap = p.wide
	if p.tries >= crowded {
		p.gap = min(secondGap, p.wide) + rand.N(max(p.wide-secondGap, 0)+1)
		p.rest = rand.N(p.patience)
	}
}
