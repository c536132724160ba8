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

// A turn is the right to knock at an address. Nobody else of this user knocks there
// meanwhile: a server tells sources by their address, and of twenty rounds of knocks
// at once most would spoil one another.
//
// It is a locked file. Beside it is another that holds the round trip that the last
// opening has seen. (A file that is locked cannot be read on every system.) Where no
// such files can be had, openings go on without.
type turn struct{ lock *flock.Flock } // nil without

// A TurnError says that others did not come to an end in time.
type TurnError struct{ Err error } // the context's

func (e *TurnError) Error() string { return "waiting for another opening to end: " + e.Err.Error() }
func (e *TurnError) Unwrap() error { return e.Err }

// poll is how often a turn that others have is asked for.
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

// roundTrip gives what was remembered, or 0.
func (t turn) roundTrip() time.Duration {
	if t.lock == nil {
		return 0
	}
	text, err := os.ReadFile(seenBy(t.lock))
	if err != nil {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return d
}

// again is when a system begins to send a SYN again (RFC 6298). What took longer
// may have been more than one round trip.
const again = time.Second

// remember keeps a round trip for the next opening.
func (t turn) remember(roundTrip time.Duration) {
	if t.lock == nil || roundTrip >= again {
		return
	}
	// What cannot be written is not remembered.
	os.WriteFile(seenBy(t.lock), []byte(roundTrip.String()+"\n"), 0o600)
}

const lockSuffix = ".lock"

// seenBy is the file with the round trip that the holder of a lock has seen.
func seenBy(lock *flock.Flock) string { return strings.TrimSuffix(lock.Path(), lockSuffix) }
