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
	shortStatus = "show what is loaded, knocks in progress and grants"
	longStatus  = `Shows whether the kernel runs the policy, which sources are knocking, which have
a grant and for how long, and the packet counters. The exit code is 1 if another
program modified the loaded rules, or if there is a policy file and no rules are
loaded, as after a flush or a reboot: the services may be open, and "postern up"
hides them again.`
	flagAll = "show every source, not the first 20"
)

const sayNobody = "no knocks in progress, no grants"

var (
	headProgress = []string{"KNOCKING", "DOOR", "TIME LEFT"}
	headGrants   = []string{"GRANTED", "SERVICE", "TIME LEFT"}
	headCounters = []string{"COUNTER", "PACKETS"}
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
		return fmt.Sprintf("modified since it was loaded%s, rule set %s", by, st.RuleSet)
	case st.Current == nil:
		return fmt.Sprintf("loaded%s, rule set %s", by, st.RuleSet)
	case *st.Current:
		return fmt.Sprintf("loaded%s, rule set %s, as in %s", by, st.RuleSet, st.File)
	}
	return fmt.Sprintf("loaded%s, rule set %s; differs from %s; \"postern up\" would load that", by, st.RuleSet, st.File)
}

// altered explains that the loaded rules are not those that were applied. It
// follows the status.
func altered() *ui.Failure {
	return &ui.Failure{
		Code:     ui.CodeFailed,
		Message:  "another program modified the loaded rules: the services they hide may be open",
		Hints:    []string{"\"postern up\" repairs them; find out which program flushes or edits rules"},
		Answered: true,
	}
}

// doesNotRun explains that a host has a policy, and does not run it. It follows the
// status.
func doesNotRun(file string) *ui.Failure {
	return &ui.Failure{
		Code:     ui.CodeFailed,
		Message:  fmt.Sprintf("the policy %q is not loaded: the services it would hide are open", file),
		Hints:    []string{"\"postern up\" loads it; a flush or a reboot removes rules"},
		Answered: true,
	}
}

func namesUnknown(file string, err error) ui.Remark {
	r := ui.Remark{Message: fmt.Sprintf("doors and services have no names here: %q is not a valid policy", file)}
	var f *ui.Failure
	if errors.As(err, &f) {
		r.Message = "doors and services have no names here: " + f.Message
		return r
	}
	r.Hints = []string{fmt.Sprintf("\"postern check -f %s\" shows what is wrong", file)}
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

// counterText returns what a counter counts.
func counterText(name string) string {
	if name == "blocked" {
		return "packets blocked"
	}
	if door, ok := strings.CutPrefix(name, "door_"); ok {
		return "knocks completed at door " + door
	}
	return name
}
