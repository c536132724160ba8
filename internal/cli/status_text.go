package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/preflight"
)

const (
	shortStatus = "show what is loaded, knocks in progress and grants"
	longStatus  = `Shows whether the kernel runs the policy, which sources are knocking, which have
a grant and for how long, and the packet counters. The exit code is for monitors:

  10  there is a policy and no rules are loaded, as after a flush
  11  another program modified the loaded rules
  12  the loaded rules are not those of the policy FILE
  13  packets come in through an interface that has no rules, or at which keys
      open nothing
  14  rules of others let in what a door hides

If several are true it is the lowest. --json has all of them as "problems".`
	flagAll = "show every source, not the first 20"
)

// markClosing follows knocks that close their door.
const markClosing = " to close"

const (
	sayNobody = "no knocks in progress, no grants"
	sayEarly  = "of these, dropped early"
)

func (e *stateEarly) text() string {
	if len(e.Interfaces) == 0 {
		return "none, as no program runs"
	}
	if !e.UDP {
		return fmt.Sprint(e.Packets, ", SYNs alone: the kernel tells programs nothing of connection tracking")
	}
	return fmt.Sprint(e.Packets)
}

var (
	headProgress = []string{"KNOCKING", "DOOR", "TIME LEFT"}
	headGrants   = []string{"GRANTED", "DOOR", "SERVICE", "TIME LEFT"}
	// where keys open doors
	headKeyGrants = []string{"GRANTED", "DOOR", "SERVICE", "TIME LEFT", "BY KEY OF"}
	headKeys      = []string{"KEY OF", "LAST AT DOOR", "FROM", "OPENED AT"}
	headCounters  = []string{"COUNTER", "PACKETS"}
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

// remark is how a person is told of a problem. It follows the status.
func (p problem) remark() ui.Remark {
	return ui.Remark{Severity: preflight.Error.String(), Message: p.Message, Hints: p.Hints}
}

func notRunning(file string) problem {
	return problem{ui.CodeNotLoaded,
		fmt.Sprintf("the policy %q is not loaded: the services it would hide are open", file),
		[]string{"\"postern up\" loads it, if it is valid; a flush or a reboot removes rules"}}
}

// stillVerifies is about what verifies keys and drops scans, where others have removed the
// rules alone.
func stillVerifies() ui.Remark {
	return ui.Remark{Message: "the program in front of the rules still runs, without them: it opens nothing, and may drop scans",
		Hints: []string{"\"postern up\" loads the rules; \"postern down\" removes the program"}}
}

func modified() problem {
	return problem{ui.CodeModified,
		"another program modified the loaded rules: the services they hide may be open",
		[]string{"\"postern up\" repairs them; find out which program flushes or edits rules"}}
}

func notVerified(interfaces []string) problem {
	return problem{ui.CodeBareInterface,
		"keys open no door by way of " + ui.List(interfaces),
		[]string{"\"postern up --boot\" repairs it where the interface has come after the rules; the watchdog does by itself"}}
}

// tagsText says until when keys open doors, where that has an end.
func tagsText(until time.Time) string {
	return "keys count until " + until.UTC().Format("2006-01-02 15:04") + " UTC; the watchdog or \"postern up\" renews them"
}

const hintTags = "\"postern up\" loads the next tags, and the watchdog does by itself, if it runs"

// tagsEnd returns what there is to say if nobody loads the next tags in time, and whether
// that is so: it is done when a quarter of their time is over.
func tagsEnd(status *firewall.Status, now time.Time) (problem, bool) {
	switch t := status.Tags; {
	case t == nil:
	case t.Stepped:
		return problem{ui.CodeBareInterface, "keys open no door: the clock was set, or this host has slept, since their tags were loaded", []string{hintTags}}, true
	case !status.Keyless && t.Until.Sub(now) < t.Last/2:
		return problem{ui.CodeBareInterface, "keys will soon open no door: nothing loads the tags of later times", []string{hintTags}}, true
	}
	return problem{}, false
}

// noKeys is about rules that were loaded without keys.
func noKeys(file string, status *firewall.Status, m *automaton.Machine) problem {
	p := problem{ui.CodeBareInterface, "no key opens a door: the kernel knows none",
		[]string{fmt.Sprintf("\"postern check -f %s\" shows what keeps it from them; then load them: \"postern up\"", file)}}
	if status.Tags != nil {
		p = problem{ui.CodeBareInterface, "no key opens a door: no tags are loaded", []string{hintTags}}
	}
	if m != nil {
		if _, err := m.Keyring(); err != nil {
			p.Message += ": " + ui.Explain(err).Message
		}
	}
	return p
}

func otherRules(file string) problem {
	return problem{ui.CodeOtherPolicy,
		fmt.Sprintf("the loaded rules are not those of %q", file),
		[]string{"\"postern up\" loads the file"}}
}

func otherBackend(file, named, runs string) problem {
	return problem{ui.CodeOtherPolicy,
		fmt.Sprintf("the loaded rules are %s rules, and %q names the %s backend", runs, file, named),
		[]string{"\"postern up\" loads the policy by the backend that it names"}}
}

func invalidFile(file string) problem {
	return problem{ui.CodeOtherPolicy,
		fmt.Sprintf("the loaded rules are not those of %q, which cannot be loaded", file),
		[]string{fmt.Sprintf("\"postern check -f %s\" shows what is wrong", file)}}
}

func severalBackends() problem {
	return problem{ui.CodeOtherPolicy,
		"the rules of two backends are loaded: each judges every knock, and no door opens",
		[]string{"\"postern up\" removes all but those of one"}}
}

// notSavedRules is what an up leaves that is killed before it saves.
func notSavedRules() problem {
	return problem{ui.CodeOtherPolicy,
		"the loaded rules are not those of the saved policy, which a reboot loads",
		[]string{"\"postern up\" loads the file and saves it"}}
}

func missingFile(file string) problem {
	return problem{ui.CodeOtherPolicy,
		fmt.Sprintf("the policy file %q does not exist", file),
		[]string{"name another file with -f, or none for that in /etc/postern"}}
}

// unknownSaved is about a saved policy that was cut short, say.
func unknownSaved() problem {
	return problem{ui.CodeOtherPolicy,
		"what is saved cannot be read: a reboot may load the policy file",
		[]string{"\"postern up\" loads the file and saves it"}}
}

func overdueRules() problem {
	return problem{ui.CodeOtherPolicy,
		"the loaded rules were not confirmed in time, and those before them are not back",
		[]string{"\"postern rollback\" loads those; \"postern up\" loads the policy"}}
}

// text says how long rules wait for a confirmation, and what happens then.
func (w *waiting) text() string {
	if w.left <= 0 {
		return "not confirmed in time"
	}
	return fmt.Sprintf("waits for \"postern confirm\": %s left, then %s", leftText(w.left), w.comesBack())
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
const sayPartial = `incomplete: status stops at 10,000 sources of a kind, and after some seconds; a
scan from forged addresses leaves a source for each`

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
	if door, ok := strings.CutPrefix(name, "closed_"); ok {
		return "times that door " + door + " was closed"
	}
	if door, ok := strings.CutPrefix(name, "key_"); ok {
		return "keys accepted at door " + door
	}
	return name
}
