package watchdog

import (
	"fmt"
	"time"
)

// sayRestored says that the rules were loaded again, and what had become of them.
func (w *watchdog) sayRestored(gone bool, by string) {
	say, before := w.restored.happened(time.Now(), "")
	if !say {
		return
	}
	what, later := "modified", ""
	if gone {
		what = "removed"
	}
	if by != "" {
		by = " by " + by
	}
	if !w.since.IsZero() { // else nobody watched when it happened
		later = ", " + time.Since(w.since).Round(100*time.Microsecond).String() + " later"
	}
	w.Journal.say(warning, "watchdog: the rules were %s%s%s; they are loaded again%s", what, by, times(before), later)
}

// sayFailed says what went wrong.
func (w *watchdog) sayFailed(now time.Time, err error) {
	w.sayRest(now) // which may have been something else
	if say, _ := w.failed.happened(now, err.Error()); say {
		w.Journal.say(failure, "watchdog: %v; it is tried again", err)
	}
}

// sayRest says how often things happened that were not said, once a minute.
func (w *watchdog) sayRest(now time.Time) {
	if n := w.restored.rest(now); n > 0 {
		w.Journal.say(warning, "watchdog: the rules were removed or modified %d more times in the last minute; they are loaded again each time", n)
	}
	if n := w.failed.rest(now); n > 0 {
		w.Journal.say(failure, "watchdog: failed %d more times in the last minute", n)
	}
}

// times says how often something happened before, unsaid.
func times(before int) string {
	if before == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d times before)", before)
}
