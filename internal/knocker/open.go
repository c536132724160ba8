package knocker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// A Door is what Open goes through: a TCP service, and how to knock for it.
type Door struct {
	Addresses   []netip.Addr // at least one, each tried with all knocks
	Service     uint16       // the TCP port
	Knocks      []policy.Port
	StepTimeout time.Duration // the server forgets a knock after this
	Gap         time.Duration // the least time between two knocks; 0 leaves it to Open
}

// A Try is one round of knocks, and the connection after it.
type Try struct {
	To      netip.Addr
	Gap     time.Duration // between two packets
	Waited  time.Duration // for the connection
	Refused bool          // it was answered, by a refusal
	Err     error         // nil if the connection stands
}

// An OpenError says that a door did not open in time.
type OpenError struct {
	Tries []Try // those that came to an end
	Err   error // the context's
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the door did not open, after %d tries: %v", len(e.Tries), e.Err)
}

func (e *OpenError) Unwrap() error { return e.Err }

// Refused tells whether the service's port answered, every time, by a refusal.
func (e *OpenError) Refused() bool {
	for _, t := range e.Tries {
		if !t.Refused {
			return false
		}
	}
	return len(e.Tries) > 0
}

const (
	// firstPatience is how long the first connection may take: three round trips
	// to the other end of a continent. Each one after it may take half as long again.
	firstPatience = 250 * time.Millisecond
	maxPatience   = 3 * time.Second
	// firstGap is the gap of the second round; the first has none. It doubles
	// from round to round.
	firstGap = 8 * time.Millisecond
	// breath is the least time from one round to the next: one refusal comes fast,
	// and a server takes only so many first knocks a second.
	breath = 100 * time.Millisecond
)

// Open knocks and connects, until the connection stands or the context ends. The
// connection is the probe: nothing else tells whether a knock was right, and a grant
// may be good for one connection only.
//
// Knocks and connections get lost, and overtake one another. So each round takes more
// time between its packets than the one before, and more patience for the
// connection. It is given up before the next round begins: the SYN that the system would
// send again is a stray packet to the server.
//
// Each try is told to tried, if that is not nil, when it is over.
func Open(ctx context.Context, d Door, tried func(Try)) (net.Conn, error) {
	unlock, err := takeTurn(ctx, d.Addresses)
	if err != nil {
		return nil, err
	}
	defer unlock()
	failed := &OpenError{}
	patience, gap := firstPatience, time.Duration(0)
	for round := 0; ; round++ {
		for _, to := range d.Addresses {
			begun := time.Now()
			t := Try{To: to, Gap: max(gap, d.Gap)}
			conn := d.try(ctx, &t, patience)
			if t.Err != nil && ctx.Err() != nil { // it was broken off, and tells nothing
				failed.Err = ctx.Err()
				return nil, failed
			}
			if tried != nil {
				tried(t)
			}
			if t.Err == nil {
				return conn, nil
			}
			failed.Tries = append(failed.Tries, t)
			if failed.Err = sleep(ctx, breath-time.Since(begun)); failed.Err != nil {
				return nil, failed
			}
		}
		patience = min(patience*3/2, maxPatience)
		gap = min(max(2*gap, firstGap), d.StepTimeout/2)
	}
}

// try makes one round.
func (d *Door) try(ctx context.Context, t *Try, patience time.Duration) net.Conn {
	for _, port := range d.Knocks {
		if err := send(t.To, port); err != nil {
			t.Err = fmt.Errorf("knocking at %s of %s: %w", port, t.To, err)
			return nil
		}
		if t.Err = sleep(ctx, t.Gap); t.Err != nil {
			return nil
		}
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	// No second address and no fallback: the grant is for this one.
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(t.To, d.Service).String())
	t.Waited, t.Err, t.Refused = time.Since(begun), err, errors.Is(err, unix.ECONNREFUSED)
	return conn
}

// sleep waits for a time, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
