package cli

import (
	"fmt"

	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/document"
)

const (
	shortRollback = "bring back the rules before those that wait"
	longRollback  = `Ends the time for which "postern up --confirm" has loaded rules: what was loaded
before comes back at once, or nothing is loaded if nothing was. It happens by
itself when the time is over.`
	flagExpired     = "wait until the time is over, and roll back unless the rules are confirmed"
	flagBesideTimer = "end by SIGTERM, as a timer of systemd's rolls back as well"
)

// backText says what runs again; nil is nothing.
func backText(former *change.Saved) string {
	if former == nil || !former.Loaded {
		return "nothing is loaded, as before: what the rules hid is open"
	}
	return fmt.Sprintf("rule set %s of %s is back", former.RuleSet, document.QuotedPath(former.File))
}

// Why rules are rolled back.
func tooLate(former *change.Saved) *ui.Failure { return back("not confirmed in time", former) }
func removedMeanwhile() *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "not kept: the rules were removed meanwhile; what they hid is open"}
}
func replacedMeanwhile(by *change.Saved) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("not kept: another \"postern up\" has loaded rule set %s of %s for good", by.RuleSet, document.QuotedPath(by.File)),
	}
}
func refusedRules(former *change.Saved) *ui.Failure { return back("not kept", former) }
func interruptedUp(former *change.Saved) *ui.Failure {
	f := back(ui.SayInterrupted, former)
	f.Code, f.Answered = ui.CodeInterrupted, true
	return f
}

func back(why string, former *change.Saved) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: why + ": " + backText(former)}
}

func lateBack(former *change.Saved) ui.Remark {
	return ui.Remark{Message: "rules were not confirmed in time, and are rolled back only now: " + backText(former)}
}

// failedBack follows rules that did not load as they should.
func failedBack(former *change.Saved) ui.Remark {
	return ui.Remark{Message: "the new rules did not load as they should, and are rolled back: " + backText(former)}
}

func failedNotBack(err error) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("the new rules did not load as they should, and the former ones are not back: %v", err),
		Hints:   []string{"they are loaded again when the time for a confirmation is over; \"postern rollback\" does it now"},
	}
}

func notBack(err error) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("rules were not confirmed in time, and cannot be rolled back: %v", err),
		Hints:   []string{"\"postern rollback\" tries again"},
	}
}
