package watchdog

import (
	"fmt"
	"io"
	"time"
)

// Priorities of the journal (sd-daemon(3)).
const (
	failure = 3
	warning = 4
	info    = 6
)

// A Journal is where a watchdog says what it does: a line each, with its priority
// before it for the systemd journal.
type Journal struct {
	To       io.Writer
	Priority bool
}

func (j *Journal) say(priority int, format string, args ...any) {
	prefix := "postern: "
	if j.Priority { // which names the program itself
		prefix = fmt.Sprintf("<%d>", priority)
	}
	fmt.Fprintf(j.To, prefix+format+"\n", args...)
}

// quiet is how long what happens again and again is only counted.
const quiet = time.Minute

// A limiter says that something happened: at once the first time, and then once in
// each quiet time, with how often.
type limiter struct {
	last  time.Time // when it was said
	count int       // since then
}

// happened returns whether to say it now, and how often it happened before since it
// was said last.
func (l *limiter) happened(now time.Time) (say bool, before int) {
	if !l.last.IsZero() && now.Sub(l.last) < quiet {
		l.count++
		return false, 0
	}
	before, l.count, l.last = l.count, 0, now
	return true, before
}

// rest returns how often it happened unsaid, once the quiet time is over.
func (l *limiter) rest(now time.Time) int {
	if l.count == 0 || now.Sub(l.last) < quiet {
		return 0
	}
	n := l.count
	l.count, l.last = 0, now
	return n
}
