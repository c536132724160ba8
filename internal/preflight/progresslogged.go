package preflight

import "postern/internal/policy"

// loggedProgress warns of a log that has the ports of knocks.
func loggedProgress(p *policy.Policy) []Finding {
	if !p.Log.Progress {
		return nil
	}
	return []Finding{aboutLine(ProgressLogged, p.Diagnose(p.Log.ProgressPos,
		"the log shows the knocks to everyone who reads it, and the time that a line takes shows a sender that it has knocked right",
		"remove progress once you have seen what you wanted, and change the sequence if others read the log"))}
}
