package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"postern/internal/cli/ui"
	"postern/internal/preflight"
)

const (
	shortCheck = "find mistakes in the policy, and what scans do to it"
	longCheck  = `Says what is wrong with the policy. If nothing is: for each door, whether a scan
of all ports in order would open it, and how many random probes it takes on
average, from one address (of IPv6, one /48), whose budget of attempts counts.
Then what may go wrong with the policy, and with this host: on an error
"postern up" refuses to load it, and check exits with 1; a warning is likely a
mistake, and a note is good to know. Only root can read all of it.`
	exampleCheck = `  postern check -f policy.yaml
  postern check --rate 100000 --here=false`
	flagRate    = "assume that a scan sends `N` probes a second"
	flagCPUs    = "assume `N` CPUs, which judge packets at the same moment"
	flagHere    = "look at this host as well: who listens, other rules, interfaces"
	flagNotHere = "do not look at this host: who listens, other rules, interfaces"
)

var headCheck = []string{"DOOR", "KNOCKS", "ASCENDING SCAN", "DESCENDING SCAN", "RANDOM PROBES, ON AVERAGE"}

const (
	sayBadRate = "--rate must be a number greater than 0"
	sayBadCPUs = "--cpus must be 1 or more"
)

func (s *session) sayScan(c checked) {
	rate, cpus := thousands(c.Rate), ui.Count(c.CPUs, "CPU")
	if c.timing == preflight.Narrowed {
		s.Say("assuming %s probes/s from one address, %s, answers not timed", rate, cpus)
		return
	}
	s.Say("assuming %s probes/s from one address, and %s", rate, cpus)
}

// thousands is a number as people read it: "10,000".
func thousands(n float64) string {
	text := strconv.FormatFloat(n, 'f', -1, 64)
	whole, rest, _ := strings.Cut(text, ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}

// sayValid ends a check that found no error.
func (s *session) sayValid(found []preflight.Finding) {
	warnings := 0
	for _, f := range found {
		if f.Severity == preflight.Warning {
			warnings++
		}
	}
	if warnings == 0 {
		s.Say("the policy is valid")
		return
	}
	s.Say("the policy is valid, with %s", ui.Count(warnings, "warning"))
}

// wouldRefuse ends a check that found errors. The policy is valid all the same.
func wouldRefuse(errors int) *ui.Failure {
	return &ui.Failure{
		Code:     ui.CodeFailed,
		Message:  fmt.Sprintf("the policy is valid, but \"postern up\" refuses it because of %s", ui.Count(errors, "error")),
		Hints:    []string{"\"postern up --yes\" loads it anyway"},
		Answered: true,
	}
}

// knocksText says what opens a door.
func (d *checkedDoor) knocksText() string {
	switch {
	case d.Knocks == 0:
		return "none, by key only"
	case d.Users > 0:
		return strconv.Itoa(d.Knocks) + ", or a key"
	}
	return strconv.Itoa(d.Knocks)
}

// opensText says when a scan in order opens a door.
func opensText(probes *float64) string {
	if probes == nil {
		return "stays shut"
	}
	return fmt.Sprintf("OPENS after %.0f", *probes)
}

// averageText says how long a random scan takes. Where the time of answers tells which
// knock is right, it names no time that would not hold.
func averageText(probes *float64, rate float64, t preflight.Timing) string {
	switch {
	case probes == nil:
		return "never opens"
	case t == preflight.Told:
		return largeText(*probes) + " (far fewer if answers are timed)"
	}
	return fmt.Sprintf("%s (%s)", largeText(*probes), longText(*probes/rate))
}

func largeText(n float64) string {
	for _, size := range []struct {
		name string
		n    float64
	}{{"trillion", 1e12}, {"billion", 1e9}, {"million", 1e6}} {
		switch {
		case n >= 1e15:
			return strings.Replace(fmt.Sprintf("%.0e", n), "e+", "e", 1)
		case n >= size.n:
			return fmt.Sprintf("%.3g %s", n/size.n, size.name)
		}
	}
	return fmt.Sprintf("%.0f", n)
}

func longText(seconds float64) string {
	const day, year = 86400, 365.25 * 86400
	switch {
	case seconds >= 1e6*year:
		return "over a million years"
	case seconds >= 2*year:
		return thousands(math.Round(seconds/year)) + " years"
	case seconds >= 2*day:
		return fmt.Sprintf("%.0f days", seconds/day)
	case seconds >= 2*3600:
		return fmt.Sprintf("%.0f hours", seconds/3600)
	case seconds >= 2*60:
		return fmt.Sprintf("%.0f minutes", seconds/60)
	}
	return fmt.Sprintf("%.2g seconds", seconds)
}
