package knocker

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"postern/internal/key"
)

// given holds what times this process has given to tokens, in nanoseconds since 1970. It
// matters where no file can be written.
var given struct {
	sync.Mutex
	last  map[series]int64
	point map[series]int64 // of the lattice
}

// A series is tokens of which a server wants each to be newer than the one before.
type series struct {
	device key.Device
	door   key.Door
	lane   key.Lane
}

// file returns the name of the file that holds the last time.
func (s series) file() string {
	return fmt.Sprintf("device-%v-%08x-%d", s.device, uint32(s.door), s.lane)
}

// fileWait is how long to wait for processes that give themselves a time. Each takes
// a few system calls; one that is stopped meanwhile must not stop others for good.
const fileWait = 2 * time.Second

// nextTime returns the time of the next token of a series: now, or right after the last one
// if now is not later. The server accepts rising times only, also where this machine's
// clock is set back a little, or two processes ask at once. A file in the user's cache
// directory holds the last time, and another one is its lock. Where there can be none, the
// tokens of this process rise all the same. One that is not newer than another process's
// is refused then, and a later one is not.
//
// A server may know the tokens of the lattice alone (key.Lane.Point). So the last point is
// the time in place of now, if that is newer than the last one given. Of a token that is
// bound, no such server knows anything: it leaves the point to the next that is not.
//
// A last time further ahead than the server accepts was given by a clock that was
// wrong. It is forgotten, or no token would be accepted until that time.
func nextTime(s series, bound bool, now time.Time) time.Time {
	given.Lock()
	defer given.Unlock()
	last := given.last[s]
	file, err := cacheFile(s.file())
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
	if time.Duration(last-now.UnixNano()) > key.DefaultWindow.Ahead {
		last = 0
	}
	if given.last == nil {
		given.last, given.point = map[series]int64{}, map[series]int64{}
	}
	next, point := max(now.UnixNano(), last+1), s.lane.Point(now).UnixNano()
	switch before := max(point-beforePoint, last+1); {
	case bound && before < point:
		next = before
	case !bound && point > last:
		next = point
		given.point[s] = point
	}
	given.last[s] = next
	if err == nil {
		overwrite(file, strconv.FormatInt(next, 10))
	}
	return time.Unix(0, next)
}

// beforePoint is how long before a point bound tokens are made: there is room for as many
// nanoseconds as an opening may have rounds.
const beforePoint = 1000

// lastPoint returns the last point that this process has given to a token of a series, and
// whether a server may know that token still.
func lastPoint(s series, now time.Time) (time.Time, bool) {
	given.Lock()
	defer given.Unlock()
	point := time.Unix(0, given.point[s])
	return point, now.Sub(point).Abs() < key.DefaultWindow.Behind
}
