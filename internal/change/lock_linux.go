package change

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/pause"
)

const (
	// sayWaiting is when a person wants to know why nothing happens.
	sayWaiting = time.Second
	// maxHold is longer than most changes take. Many that queue up may wait longer:
	// each holder has so long.
	maxHold = 10 * time.Second
)

// takeLock waits for the lock. The file holds the number of the process that has
// it; the lock itself is the kernel's (flock), so that it cannot outlive the process.
func (p *Place) takeLock(ctx context.Context, waiting func(holder int)) (*os.File, error) {
	f, err := p.openLock()
	if err != nil {
		return nil, err
	}
	got := make(chan error, 1)
	go func() { got <- flock(f) }()
	ticker := time.NewTicker(sayWaiting)
	defer ticker.Stop()
	var holder note
	since, said := time.Now(), false
	for {
		select {
		case err := <-got:
			if err != nil {
				f.Close()
				return nil, &os.PathError{Op: "flock", Path: f.Name(), Err: err}
			}
			f.Truncate(0) // what is in it is for people alone
			f.WriteAt(fmt.Appendf(nil, "%d %d\n", os.Getpid(), time.Now().UnixNano()), 0)
			return f, nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-ticker.C:
			if now := readNote(f); now != holder {
				holder, since = now, time.Now()
			}
			if !said {
				waiting(holder.pid)
				said = true
			}
			if time.Since(since) > maxHold {
				err = &LockedError{holder.pid}
			}
		}
		if err != nil {
			go func() { <-got; f.Close() }() // it may still come, and is then given back
			return nil, err
		}
	}
}

// pauseWatchdog pauses the watchdog, if there is one, until resume is called.
func (p *Place) pauseWatchdog() (resume func()) {
	if p.missing != nil { // it has no socket either
		return func() {}
	}
	return pause.Ask(p.runtime)
}

// Watchdog returns the process of the watchdog that runs here, 0 if none is found, and
// whether it is this very program.
func (p *Place) Watchdog() (pid int, same bool) {
	if pid = pause.Watchdog(p.runtime); pid == 0 {
		return 0, true
	}
	return pid, pause.SameProgram(pid)
}

// openLock opens what the lock is on: a file that only root can open, so that no
// other user can hold changes up. Without the directories it is the namespace itself.
func (p *Place) openLock() (*os.File, error) {
	if p.make(); p.missing == nil {
		f, err := os.OpenFile(p.lockFile(), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
		if err == nil {
			return f, nil
		}
		p.missing = err
	}
	return os.Open(ownNamespace)
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// A note is what the holder of the lock writes into the file.
type note struct {
	pid  int   // 0 if it is not known; in a container it may be anybody's
	when int64 // tells two holders with one number apart
}

func readNote(f *os.File) (n note) {
	text := make([]byte, 64)
	length, _ := f.ReadAt(text, 0)
	fmt.Sscan(string(text[:length]), &n.pid, &n.when) // as far as it goes
	return n
}
