package knocker

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A turn is the right to knock at an address. No other process of this user knocks
// there meanwhile: a server tells sources apart by their address, and rounds of
// knocks at the same time would spoil one another.
//
// It is a locked file. A file beside it holds the round trip time of the last opening.
// (Not every system can read a locked file.) Where no such files can be made, openings
// go on without.
type turn struct{ lock *flock.Flock } // nil without

// A TurnError reports that other openings did not end in time.
type TurnError struct{ Err error } // the context's

func (e *TurnError) Error() string { return "waiting for another opening to end: " + e.Err.Error() }
func (e *TurnError) Unwrap() error { return e.Err }

// poll is how often takeTurn tries to lock a file that is locked.
const poll = 2 * time.Millisecond

// takeTurn waits for the turn.
func takeTurn(ctx context.Context, a netip.Addr) (turn, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return turn{}, ctx.Err()
	}
	folder = filepath.Join(folder, "postern")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return turn{}, ctx.Err()
	}
	name := strings.NewReplacer(":", "_", "%", "_", "/", "_").Replace(a.String())
	lock := flock.New(filepath.Join(folder, name+lockSuffix))
	switch _, err = lock.TryLockContext(ctx, poll); {
	case ctx.Err() != nil:
		lock.Close()
		return turn{}, &TurnError{ctx.Err()}
	case err != nil:
		return turn{}, nil
	}
	return turn{lock}, nil
}

func (t turn) end() {
	if t.lock != nil {
		t.lock.Close()
	}
}

// roundTrip returns the round trip time that was remembered, or 0.
func (t turn) roundTrip() time.Duration {
	if t.lock == nil {
		return 0
	}
	text, err := os.ReadFile(roundTripFile(t.lock))
	if err != nil {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return d
}

// retransmit is when a system begins to retransmit a SYN (RFC 6298). What took longer
// may have been more than one round trip.
const retransmit = time.Second

// remember keeps a round trip time for the next opening.
func (t turn) remember(roundTrip time.Duration) {
	if t.lock == nil || roundTrip >= retransmit {
		return
	}
	// If it cannot be written, the next opening does without.
	os.WriteFile(roundTripFile(t.lock), []byte(roundTrip.String()+"\n"), 0o600)
}

const lockSuffix = ".lock"

// roundTripFile is the file with the round trip time, beside a lock.
func roundTripFile(lock *flock.Flock) string { return strings.TrimSuffix(lock.Path(), lockSuffix) }
