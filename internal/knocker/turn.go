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

// A turn is the right to knock at some addresses. Nobody else of this user knocks
// there meanwhile: a server tells sources by their address, and of twenty rounds of
// knocks at once most would spoil one another.
//
// It is a locked file for each address. Beside it is another that holds the round
// trip that the last opening has seen. (A file that is locked cannot be read on every
// system.) Where no such files can be had, openings go on without.
type turn map[netip.Addr]*flock.Flock

// takeTurn waits for the turn of all these addresses.
func takeTurn(ctx context.Context, addresses []netip.Addr) (turn, error) {
	held := turn{}
	folder, err := os.UserCacheDir()
	if err != nil {
		return held, nil
	}
	folder = filepath.Join(folder, "postern")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return held, nil
	}
	// In one order for everybody, so that no two wait for each other.
	for _, a := range slices.Compact(slices.SortedFunc(slices.Values(addresses), netip.Addr.Compare)) {
		name := strings.NewReplacer(":", "_", "%", "_", "/", "_").Replace(a.String())
		lock := flock.New(filepath.Join(folder, name+lockSuffix))
		_, err := lock.TryLockContext(ctx, 2*time.Millisecond)
		if ctx.Err() != nil {
			held.end()
			return nil, fmt.Errorf("waiting for another opening to end: %w", ctx.Err())
		}
		if err == nil {
			held[a] = lock
		}
	}
	return held, nil
}

func (t turn) end() {
	for _, lock := range t {
		lock.Close()
	}
}

// roundTrip gives what was remembered, or 0.
func (t turn) roundTrip(a netip.Addr) time.Duration {
	lock, ok := t[a]
	if !ok {
		return 0
	}
	text, err := os.ReadFile(seenBy(lock))
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
func (t turn) remember(a netip.Addr, roundTrip time.Duration) {
	lock, ok := t[a]
	if !ok || roundTrip >= again {
		return
	}
	// What cannot be written is not remembered.
	os.WriteFile(seenBy(lock), []byte(roundTrip.String()+"\n"), 0o600)
}

const lockSuffix = ".lock"

// seenBy is the file with the round trip that the holder of a lock has seen.
func seenBy(lock *flock.Flock) string { return strings.TrimSuffix(lock.Path(), lockSuffix) }
