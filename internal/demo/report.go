package demo

import (
	"fmt"
	"strings"
)

// A Report is what a run has shown.
type Report struct {
	OK    bool   `json:"ok"`
	Note  string `json:"note"`
	Steps []Step `json:"steps"`
}

// A Step is one screen of the story.
type Step struct {
	Title  string  `json:"title"`
	OK     bool    `json:"ok"`
	Claims []Claim `json:"claims"`
}

// A Claim is something that the story says and that packets have shown to be
// so, or not.
type Claim struct {
	Text string `json:"claim"`
	OK   bool   `json:"ok"`
	Got  string `json:"got,omitempty"` // where it does not hold: what was seen
}

// Note is what must be said whenever knocking is shown.
const Note = "knocking hides a service; it does not replace the service's own authentication"

// A FailedError says that not all claims hold.
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
