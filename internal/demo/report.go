package demo

import (
	"fmt"
	"strings"
)

// A Report is the result of a run.
type Report struct {
	OK    bool   `json:"ok"`
	Note  string `json:"note"`
	Steps []Step `json:"steps"`
}

// A Step is one step of the story.
type Step struct {
	Title  string  `json:"title"`
	OK     bool    `json:"ok"`
	Claims []Claim `json:"claims"`
}

// A Claim is a statement of the story, and whether packets have confirmed it.
type Claim struct {
	Text string `json:"claim"`
	OK   bool   `json:"ok"`
	Got  string `json:"got,omitempty"` // what was seen instead, if it does not hold
}

// Note must be printed wherever knocking is shown.
const Note = "knocking hides a service; it does not replace the service's own authentication"

// A FailedError reports that some claims do not hold.
type FailedError struct{ Report *Report }

func (e *FailedError) Error() string {
	all := 0
	var failed []string
	for i, s := range e.Report.Steps {
		all += len(s.Claims)
		for _, c := range s.Claims {
			if !c.OK {
				failed = append(failed, fmt.Sprintf("in step %d: %q: no, %s", i+1, c.Text, c.Got))
			}
		}
	}
	return fmt.Sprintf("%d of the demo's %d checks failed: %s", len(failed), all, strings.Join(failed, "; "))
}
