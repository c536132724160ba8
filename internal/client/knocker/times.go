package knocker

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"postern/internal/key"
)

// given holds the last time that this process has given to a token of a device, in
// nanoseconds since 1970. It matters where no file can be written.
var given struct {
	sync.Mutex
	last map[key.Device]int64
}

// fileWait is how long to wait for processes that give themselves a time. Each takes
// a few system calls; one that is stopped meanwhile must not stop others for good.
const fileWait = 2 * time.Second

// nextTime returns the time of a device's next token: now, or right after the last
// one if now is not later. The server accepts rising times only, also where this
// machine's clock is set back a little, or two processes ask at once. A file in the
// user's cache directory holds the last time, and another one is its lock. Where
// there can be none, the tokens of this process rise all the same. One that is not
// newer than another process's is refused then, and a later one is not.
//
// A last time further ahead than the server accepts was given by a clock that was
// wrong. It is forgotten, or no token would be accepted until that time.
func nextTime(device key.Device, now time.Time) time.Time {
	given.Lock()
	defer given.Unlock()
	next, last := now.UnixNano(), given.last[device]
	file, err := cacheFile("device-" + device.String())
	if err == nil {
		waiting, cancel := context.WithTimeout(context.Background(), fileWait)
		defer cancel()
		lock := flock.New(file + lockSuffix)
		lock.TryLockContext(waiting, poll) // what it guards against is rare
		defer lock.Close()
		if text, err := os.ReadFile(file); err == nil {
			kept, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			last = max(last, kept)
		}
	}
	if next <= last && time.Duration(last-next) <= key.DefaultWindow.Ahead {
		next = last + 1
	}
	if given.last == nil {
		given.last = map[key.Device]int64{}
	}
	given.last[device] = next
	if err == nil {
		os.WriteFile(file, strconv.AppendInt(nil, next, 10), 0o600)
	}
	return time.Unix(0, next)
}
