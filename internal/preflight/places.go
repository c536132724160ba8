package preflight

import (
	"fmt"
	"time"

	"postern/internal/automaton"
	"postern/internal/document"
	"postern/internal/firewall"
)

// enoughKnocks is how many forged first knocks a second a table should stand: 50
// Mbit/s of them.
const enoughKnocks = 100_000

// longStep warns of a step_timeout with which few forged first knocks fill the table
// of those who are knocking: each takes its place that long.
func (f *facts) longStep() []Finding {
	b, ok := f.backend.(firewall.Bounded)
	if !ok {
		return nil
	}
	var longest *automaton.Door
	for i := range f.machine.Doors {
		d := &f.machine.Doors[i]
		if len(d.Knock.Sequence) > 1 && (longest == nil || d.Knock.StepTimeout > longest.Knock.StepTimeout) {
			longest = d
		}
	}
	if longest == nil {
		return nil
	}
	suffice := firstKnocks(b.Places(), longest.Knock.StepTimeout)
	if suffice >= enoughKnocks {
		return nil
	}
	most := (time.Duration(b.Places()/enoughKnocks) * time.Second).Truncate(time.Second)
	return []Finding{aboutLine(StepTimeoutLong, f.machine.Policy.Diagnose(longest.Knock.StepTimeoutPos,
		fmt.Sprintf("with a step_timeout of %s, %s forged first knocks a second fill the table of knocks in progress: no door opens then",
			document.FormatDuration(longest.Knock.StepTimeout), thousands(suffice)),
		fmt.Sprintf("a client needs seconds; up to %s it takes %s a second", document.FormatDuration(most), thousands(enoughKnocks))))}
}

// firstKnocks returns how many a second keep so many places taken.
func firstKnocks(places int, each time.Duration) int {
	return int(float64(places) / each.Seconds())
}

// thousands writes a number below a million: "17,476".
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
