package client

import (
	"context"
	"time"
)

// A queue lets one opening after another knock: at once, they would spoil each
// other's knocks. (It knows nothing of openings in other processes; knocker.Open
// waits for those, and that wait is part of an opening's time.)
type queue struct {
	turn   chan struct{}           // holds something while an opening is under way
	failed map[Destination]failure // the last one; only the holder of the turn may use it
}

// A failure is why an opening failed, and when.
type failure struct {
	err error
	at  time.Time
}

func newQueue() queue {
	return queue{turn: make(chan struct{}, 1), failed: map[Destination]failure{}}
}

// open waits for its turn, and opens. A caller who has waited since before the last
// opening to the same destination failed gets the same error: many callers would
// otherwise wait for as many timeouts.
func (q *queue) open(ctx context.Context, since time.Time, to Destination, open func() (*Opened, error)) (*Opened, error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if last := q.failed[to]; since.Before(last.at) {
		return nil, last.err
	}
	o, err := open()
	if err != nil && ctx.Err() == nil {
		q.failed[to] = failure{err, time.Now()}
	}
	return o, err
}
