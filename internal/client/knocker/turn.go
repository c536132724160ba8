package knocker

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// A turn is the right to knock at an address. No other process of this user knocks
// there meanwhile: a server tells sources apart by their address, and rounds of
// knocks at the same time would spoil one another.
//
// It is a locked file. Files beside it hold the round trip time of the last opening,
// how its token came through, and the budget. (Not every system can read a locked
// file.) Where no such files can be made, openings go on without.
type turn struct {
	base   string       // of the files' paths; empty without
	lock   *flock.Flock // nil without
	budget budget       // end keeps it for the next turn
}

// A TurnError reports that other openings did not end in time.
type TurnError struct{ Err error } // the context's

func (e *TurnError) Error() string { return "waiting for another opening to end: " + e.Err.Error() }
func (e *TurnError) Unwrap() error { return e.Err }

// poll is how often takeTurn tries to lock a file that is locked.
const poll = 2 * time.Millisecond

// takeTurn waits for the turn. Where turns cannot be taken, the budget is what this
// process knows of it.
func takeTurn(ctx context.Context, a netip.Addr, known budget) (*turn, error) {
	t := noTurn(a, known)
	if t.base == "" {
		return t, ctx.Err()
	}
	lock := flock.New(t.base + lockSuffix)
	switch _, err := lock.TryLockContext(ctx, poll); {
	case ctx.Err() != nil:
		lock.Close()
		return nil, &TurnError{ctx.Err()}
	case err != nil:
		return t, nil
	}
	t.lock = lock
	if text, err := os.ReadFile(t.file(budgetSuffix)); err == nil {
		t.budget.whole, _ = time.Parse(time.RFC3339Nano, strings.TrimSpace(string(text)))
	}
	return t, nil
}

// noTurn is for who may knock at the same time as others.
func noTurn(a netip.Addr, known budget) *turn {
	base, err := cacheFile(strings.NewReplacer(":", "_", "%", "_", "/", "_").Replace(a.String()))
	if err != nil {
		base = ""
	}
	return &turn{base: base, budget: known}
}

// cacheFile returns the path of a file in the user's cache directory, whose folder
// is there.
func cacheFile(name string) (string, error) {
	folder, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	folder = filepath.Join(folder, "postern")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	return filepath.Join(folder, name), nil
}

// end gives up the turn.
func (t *turn) end() {
	if t.lock == nil {
		return
	}
	t.write(budgetSuffix, t.budget.whole.Format(time.RFC3339Nano))
	t.lock.Close()
}

// roundTrip returns the round trip time that was remembered, or 0.
func (t *turn) roundTrip() time.Duration {
	if t.base == "" {
		return 0
	}
	text, err := os.ReadFile(t.file(roundTripSuffix))
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
func (t *turn) remember(roundTrip time.Duration) {
	if t.base != "" && roundTrip < retransmit {
		t.write(roundTripSuffix, roundTrip.String())
	}
}

// unboundFor is how long it is known that tokens bound to an address do not come
// through. It may have been a lost packet.
const unboundFor = 24 * time.Hour

// passage returns how a token came through last, or else the first envelope.
func (t *turn) passage(now time.Time) Passage {
	if t.base == "" {
		return Passage{}
	}
	text, _ := os.ReadFile(t.file(envelopeSuffix))
	name, unbound, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	p := Passage{Envelope: Envelope(max(slices.Index(envelopeNames[:], name), 0))}
	if written, err := os.Stat(t.file(envelopeSuffix)); err == nil && now.Sub(written.ModTime()) < unboundFor {
		p.Unbound, _ = netip.ParseAddr(unbound)
	}
	return p
}

// rememberPassage keeps how a token came through for the next opening. known is what is
// kept already.
func (t *turn) rememberPassage(known, p Passage) {
	if t.base == "" || p == known {
		return
	}
	line := p.String()
	if p.Unbound.IsValid() {
		line += " " + p.Unbound.String()
	}
	t.write(envelopeSuffix, line)
}

// What the files of an address end in.
const (
	lockSuffix      = ".lock"
	envelopeSuffix  = ".token"
	budgetSuffix    = ".budget"
	roundTripSuffix = ""
)

// file returns the path of a file beside the lock.
func (t *turn) file(suffix string) string { return t.base + suffix }

// write writes a line to a file beside the lock.
func (t *turn) write(suffix, line string) { overwrite(t.file(suffix), line) }

// overwrite writes a line to a file, in place. (A file that is made empty first, as by
// os.WriteFile, is on the disk before ext4 closes it: an opening would wait for that, for
// milliseconds.) Blanks fill it up, so that nothing is left of a longer line. If it cannot
// be written, the next opening does without.
func overwrite(path, line string) {
	const width = 63 // the longest line has an envelope and an address
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "%-*s\n", width, line)
}
