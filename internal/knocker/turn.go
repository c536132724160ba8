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

	"golang.org/x/sys/unix"
)

// takeTurn waits until nobody else of this user opens a door of any of these
// addresses, and gives what ends the turn. A server tells sources by their address:
// of twenty rounds of knocks at once, most spoil one another.
//
// A file system where no lock can be had is no reason not to go on.
func takeTurn(ctx context.Context, addresses []netip.Addr) (end func(), err error) {
	var held []*os.File
	end = func() {
		for _, f := range held {
			f.Close() // and so unlocks it
		}
	}
	for _, path := range turns(addresses) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			continue
		}
		held = append(held, f)
		for {
			err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
			if err != unix.EWOULDBLOCK && err != unix.EINTR {
				break
			}
			if err := sleep(ctx, 2*time.Millisecond); err != nil {
				end()
				return nil, fmt.Errorf("waiting for another opening to end: %w", err)
			}
		}
	}
	return end, nil
}

// turns names the files to lock, in one order for everybody.
func turns(addresses []netip.Addr) []string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if dir == "" {
		dir = os.TempDir()
	}
	var paths []string
	for _, a := range addresses {
		name := fmt.Sprintf("postern-%d-%s.lock", os.Getuid(), strings.NewReplacer(":", "_", "%", "_").Replace(a.String()))
		paths = append(paths, filepath.Join(dir, name))
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
