package knocker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"time"

	"postern/internal/policy"
)

// A Door is a TCP service, and how to open it: with a key, or by knocks.
type Door struct {
	Ways        []Way // at least one, each tried with all knocks
	Key         *Key  // nil: by knocks
	Knocks      []policy.Port
	StepTimeout time.Duration // the server forgets a knock after this
	Gap         time.Duration // the least time between two knocks; 0 leaves it to Open
}

// A Way is where the knocks of a round go, and the connection after it. The two
// are of one family: a grant is for the address that the knocks came from.
type Way struct {
	Knock   netip.Addr
	Service netip.AddrPort
}

// A Try is one round of knocks, and the connection after it.
type Try struct {
	Way     Way
	Gap     time.Duration // between two knocks
	By      Passage       // of the token, if the door has a key and it was sent
	Waited  time.Duration // for the connection; 0 if it was not attempted
	Refused bool          // the service refused the connection
	Err     error         // nil if it is connected
}

// Unsent reports whether a knock could not be sent.
func (t *Try) Unsent() bool { return t.Waited == 0 }

// An OpenError reports that a door did not open.
type OpenError struct {
	Tries []Try // those that came to an end
	Err   error // the context's, or why nothing could be sent
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the door did not open, after %d tries: %v", len(e.Tries), e.Err)
}

func (e *OpenError) Unwrap() error { return e.Err }

// Refused reports whether the service refused every connection.
func (e *OpenError) Refused() bool {
	for _, t := range e.Tries {
		if !t.Refused {
			return false
		}
	}
	return len(e.Tries) > 0
}

// minRound is the least time from one round to the next: a refusal comes fast, and
// rounds in quick succession would use up the budget while the network has trouble.
const minRound = 100 * time.Millisecond

// Open knocks and connects, until it is connected or the context ends. Only the
// connection shows whether the knocks were right, and a grant may be good for one
// connection only.
//
// Packets get lost, and overtake one another. So each round leaves more time between
// its packets than the one before, and waits longer for the connection. It is given
// up before the next round begins: to the server, the SYN that the system would
// retransmit is a stray packet. A round begins when the server counts all of it, and
// knocks beyond its budget follow as that grows again.
//
// If nothing can be sent by any way, Open returns at once: there is no network, or no
// right to use it.
//
// It calls tried, if that is not nil, after each try.
func Open(ctx context.Context, d Door, tried func(Try)) (net.Conn, error) {
	paces := make([]pace, len(d.Ways))
	budgets := make([]budget, len(d.Ways))
	known := make([]Passage, len(d.Ways)) // of the last opening
	failed := &OpenError{}
	for round := 0; ; round++ {
		unsent := 0
		for i, way := range d.Ways {
			// One round at a time: another opening may need fewer than this one.
			turn, err := d.takeTurn(ctx, way.Knock, budgets[i], round)
			if err != nil && len(failed.Tries) == 0 {
				return nil, err
			}
			if failed.Err = err; err != nil {
				return nil, failed
			}
			begun := time.Now()
			if round == 0 {
				paces[i] = newPace(turn.roundTrip())
				known[i] = turn.passage(begun)
			}
			t := Try{Way: way, Gap: max(paces[i].gap, d.Gap)}
			conn := d.try(ctx, turn, &t, paces[i], known[i], round)
			if t.Err == nil {
				turn.remember(t.Waited)
				if d.Key != nil {
					turn.rememberPassage(known[i], t.By)
				}
			}
			turn.end()
			budgets[i] = turn.budget
			if t.Err != nil && ctx.Err() != nil { // it was interrupted, and shows nothing
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
			if t.Unsent() {
				if unsent++; unsent == len(d.Ways) {
					failed.Err = t.Err
					return nil, failed
				}
				continue
			}
			if d.Key != nil {
				paces[i].slowDown(t, 2*tokenGap)
				paces[i].rest = 0 // nobody's budget is spent
			} else {
				paces[i].slowDown(t, d.StepTimeout)
			}
			// Others who wait for a turn must see that it is free.
			rest := max(minRound-time.Since(begun), 2*poll) + paces[i].rest
			if failed.Err = sleep(ctx, rest); failed.Err != nil {
				return nil, failed
			}
		}
	}
}

// keepAlive is the default of systems (RFC 9293, 3.8.4). Go's own default ends an
// idle connection after two and a half minutes without a network, which a session
// over ssh should survive.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Hour, Interval: 75 * time.Second, Count: 9}

// takeTurn waits for the turn that a round needs. A token needs none: the server
// keeps nothing of it that another could spoil. But where a grant is good for one
// connection, another opening at the same moment may take it. So only those that
// have failed once take turns.
func (d *Door) takeTurn(ctx context.Context, to netip.Addr, known budget, round int) (*turn, error) {
	if d.Key != nil && round == 0 {
		return noTurn(to, known), ctx.Err()
	}
	return takeTurn(ctx, to, known)
}

// try makes one round.
func (d *Door) try(ctx context.Context, turn *turn, t *Try, p pace, known Passage, round int) net.Conn {
	if d.Key != nil {
		// What one network drops, another kind of packet may get through.
		t.By, t.Err = d.Key.sendRound(t.Way.Knock, known, round)
	} else {
		t.Err = turn.knock(ctx, t.Way.Knock, d.Knocks, t.Gap, func(policy.Port) {})
	}
	if t.Err != nil {
		return nil
	}
	// d.Gap is between knocks, and the door may be open for less.
	if t.Err = sleep(ctx, p.gap); t.Err != nil {
		return nil
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.wait())
	defer cancel()
	// No second address and no fallback: the grant is for this one.
	dialer := net.Dialer{KeepAliveConfig: keepAlive}
	conn, err := dialer.DialContext(ctx, "tcp", t.Way.Service.String())
	t.Waited, t.Err, t.Refused = max(time.Since(begun), 1), err, refused(err) // a coarse clock may show no time at all
	if err != nil {
		turn.budget.spendSYN(time.Now(), t.Waited)
	}
	return conn
}

// sleep waits for a time, or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d < time.Millisecond {
		spin(d)
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

// spin waits for less time than timers can: Go's are late by up to a millisecond in
// an idle program, and by more on some systems.
func spin(d time.Duration) {
	for begun := time.Now(); time.Since(begun) < d; {
		runtime.Gosched()
	}
}
