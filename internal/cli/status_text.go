package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
)

const (
	shortStatus = "show what is loaded, who knocks, who may enter"
	longStatus  = `Shows whether the kernel runs the policy, which sources are part-way through a
knock, which hold a grant and for how long, and what was counted. It ends with
exit code 1 if somebody else has changed the loaded rules: what they hide may
be open then, and "postern up" mends it.`
	flagAll = "show every source, not the first 20"
)

const sayNobody = "nobody is part-way, and nobody holds a grant"

var (
	headProgress = []string{"PART-WAY", "DOOR", "TIME LEFT"}
	headGrants   = []string{"MAY ENTER", "SERVICE", "TIME LEFT"}
	headCounters = []string{"COUNTED", "PACKETS"}
)

func loadedText(st state) string {
	by := ""
	if st.Backend != backends.Default().Name() {
		by = " by " + st.Backend
	}
	switch {
	case !st.Loaded:
		return "not loaded"
	case st.Altered:
		return fmt.Sprintf("changed since it was loaded%s, rule set %s", by, st.RuleSet)
	case st.Current == nil:
		return fmt.Sprintf("loaded%s, rule set %s", by, st.RuleSet)
	case *st.Current:
		return fmt.Sprintf("loaded%s, rule set %s, as in %s", by, st.RuleSet, st.File)
	}
	return fmt.Sprintf("loaded%s, rule set %s; %s is another: postern up loads it", by, st.RuleSet, st.File)
}

// altered says that the loaded rules are not what was applied. It is said after
// the status, which is told as it is.
func altered() *ui.Failure {
	return &ui.Failure{
		Code:     ui.CodeFailed,
		Message:  "somebody has changed the loaded rules: what they hide may be open",
		Hints:    []string{"\"postern up\" mends it; see which program flushes or edits rules"},
		Answered: true,
	}
}

func namesUnknown(file string, err error) ui.Remark {
	r := ui.Remark{Message: fmt.Sprintf("no names for doors and services: %q is no valid policy", file)}
	var f *ui.Failure
	if errors.As(err, &f) {
		r.Message = "no names for doors and services: " + f.Message
		return r
	}
	r.Hints = []string{fmt.Sprintf("\"postern check -f %s\" says what is wrong", file)}
	return r
}

// sayPartial follows the tables of sources where the kernel holds more of them.
const sayPartial = "incomplete: the kernel holds more sources than status reads, some 10,000 of each kind"

func moreText(n int, partial bool) string {
	if partial {
		return fmt.Sprintf("and at least %d more; --all shows those that were read", n)
	}
	return fmt.Sprintf("and %d more; --all shows them", n)
}

func leftText(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// counterText tells what a counter counts.
func counterText(name string) string {
	if name == "covered" {
		return "packets covered"
	}
	if door, ok := strings.CutPrefix(name, "door_"); ok {
		return "knocks completed at door " + door
	}
	return name
}
