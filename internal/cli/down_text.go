package cli

import "postern/internal/cli/ui"

const (
	shortDown = "take everything out of the kernel again"
	longDown  = `Removes Postern's own rules from the kernel, of whichever backend, and nothing
else. What the policy hid is then as open as without it.`
)

func (s *session) sayRemoved(r removed) {
	switch {
	case !r.Removed:
		s.Say("nothing was loaded")
	case len(r.Open) > 0:
		s.Say("removed: %s as open as without postern", isOrAre(ui.List(r.Open), len(r.Open)))
	default:
		s.Say("removed: what the policy hid is as open as without postern")
	}
}

func isOrAre(things string, n int) string {
	if n == 1 {
		return things + " is"
	}
	return things + " are"
}
