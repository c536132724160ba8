package watchdog

import (
	"fmt"
	"io"
	"slices"
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

// mostTexts is how many different texts are said in a quiet time, of one kind of event. Texts
// may have numbers in them that are never the same.
const mostTexts = 5

// A limiter says that something happened: at once the first time, and then once in
// each quiet time, with how often. What is told with another text is another thing, and is
// said at once, too.
type limiter struct {
	last  time.Time // when the quiet time began
	count int       // of what was not said since then
	said  []string  // the texts that were, the last one to happen at the end
}

// happened returns whether to say it now, and how often anything happened before, unsaid, if
// its quiet time is over.
func (l *limiter) happened(now time.Time, text string) (say bool, before int) {
	if l.last.IsZero() || now.Sub(l.last) >= quiet {
		before, l.count, l.last, l.said = l.count, 0, now, nil
	}
	known := slices.Index(l.said, text)
	switch {
	case known >= 0:
		l.said = append(slices.Delete(l.said, known, known+1), text)
	case len(l.said) < mostTexts:
		l.said = append(l.said, text)
		return true, before
	}
	l.count++
	return false, 0
}

// rest returns how often anything happened unsaid, once the quiet time is over. Of the texts
// only the last one is not said again at once.
func (l *limiter) rest(now time.Time) int {
	if l.count == 0 || now.Sub(l.last) < quiet {
		return 0
	}
	n := l.count
	l.count, l.last, l.said = 0, now, l.said[len(l.said)-1:]
	return n
}
