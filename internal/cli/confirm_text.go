package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/firewall"
)

const (
	shortConfirm = "keep the rules that wait for a confirmation"
	longConfirm  = `Keeps the rules that "postern up" has loaded for a time. "postern up --confirm 60s"
loads rules that go again after 60 seconds, unless they are confirmed: what was
loaded before comes back. That is the default for somebody who is logged in over
the network. Run this from a new log-in, which shows that the rules let you in.`
)

// sayWaits follows what up has loaded.
func (s *session) sayWaits(w *waiting) {
	s.Say("these rules are for %s only: then %s, unless they are confirmed", document.FormatDuration(w.left.Round(time.Second)), w.comesBack())
	s.Hint("log in once more from another terminal, and run \"postern confirm\" there, as root")
}

// comesBack says what happens to rules that are not confirmed.
func (w *waiting) comesBack() string {
	if !w.Former.Loaded {
		return "they are removed"
	}
	return fmt.Sprintf("rule set %s comes back, loaded from %s at %s",
		w.Former.RuleSet, document.QuotedPath(w.Former.File), w.when.Format("15:04:05 on 2 January 2006"))
}

// askText is the prompt. Its width does not change.
func askText(left time.Duration) string {
	return fmt.Sprintf("postern: %4.0fs left; keep these rules? [y/n] ", max(left, 0).Seconds())
}

func (s *session) sayConfirmed(c confirmed) {
	s.Say("%s rule set %s of %s", ui.Colour(s.ErrTTY, ui.Bold, "confirmed"), c.RuleSet, document.QuotedPath(c.File))
}

// notProposed explains why rules cannot be loaded for a time.
func notProposed(err error) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("nothing has changed: %v", err), Err: err}
	if _, unknown := errors.AsType[*change.UnknownError](err); unknown {
		f.Hints = []string{"to load the policy for good, without a way back, use --no-confirm"}
		return f
	}
	f.Message = fmt.Sprintf("nothing has changed: rules cannot be loaded until they are confirmed: %v", err)
	f.Hints = []string{"to load the policy for good, use --no-confirm"}
	return f
}

// notProlonged says that the time runs from before the rules were loaded.
func notProlonged(err error) ui.Remark {
	return ui.Remark{Message: fmt.Sprintf("the time for a confirmation began before the rules were loaded: %v", err)}
}

// nothingWaits says that no rules wait, or that this user cannot know.
func nothingWaits(c *change.Change) error {
	if err := c.Missing(); errors.Is(err, fs.ErrPermission) {
		return &firewall.PermissionError{Err: err}
	}
	return notConfirmed(change.ErrNothingPending)
}

func notConfirmed(err error) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: err.Error(), Err: err}
	switch {
	case errors.Is(err, change.ErrNothingPending):
		f.Hints = []string{"\"postern status\" shows what is loaded"}
	case errors.Is(err, change.ErrOtherRules):
		f.Hints = []string{"\"postern rollback\" loads the rules before them; \"postern up\" loads the policy again"}
	}
	return f
}
