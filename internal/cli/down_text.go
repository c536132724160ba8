package cli

import (
	"fmt"

	"postern/internal/cli/ui"
)

const (
	shortDown = "remove postern's rules from the kernel"
	longDown  = `Removes Postern's own rules from the kernel, whichever backend they are of, and
nothing else. The services that the policy hid are no longer hidden. The saved
copy of the policy goes as well: a host that loads rules at boot then loads FILE.`
)

// notForgotten says that the rules are gone, and would come back.
func notForgotten(err error) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("the rules are removed, but the saved policy is not, so a reboot would load it: %v", err),
		Hints:   []string{hintWatchdog},
		Err:     err,
	}
}

// stillVerified says that the rules are gone, and what verifies keys is not.
func stillVerified(err error) *ui.Failure {
	f := ui.Explain(err)
	return &ui.Failure{Code: f.Code, Message: "no rules are loaded, but the program in front of them is: " + f.Message, Hints: f.Hints, Err: err}
}

func (s *session) sayRemoved(r removed) {
	switch {
	case !r.Removed:
		s.Say("nothing was loaded")
	case !r.rules:
		s.Say("removed the program in front of the rules; no rules were loaded")
	case len(r.Open) > 0:
		s.Say("removed: %s no longer hidden", isOrAre(ui.List(r.Open), len(r.Open)))
	default:
		s.Say("removed: the services of the policy are no longer hidden")
	}
}

func isOrAre(things string, n int) string {
	if n == 1 {
		return things + " is"
	}
	return things + " are"
}
