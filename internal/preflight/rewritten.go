package preflight

import "fmt"

// rewrittenEarly notes rules of others that send packets to another host without connection
// tracking: to what drops early, each looks like a new one for this host.
func (f *facts) rewrittenEarly() []Finding {
	if !f.machine.Parameters.Early {
		return nil
	}
	lost := "of those that it sends on, more than ten a second of a sender are dropped"
	if !f.machine.Policy.Answers() {
		lost += ", and nearly all SYNs"
	}
	var found []Finding
	for _, r := range f.rewrites {
		found = append(found, Finding{
			Kind: RewrittenEarly, Severity: Warning,
			Message: fmt.Sprintf("table %s, chain %s gives packets another destination without connection tracking: %s",
				r.Table, r.Chain, lost),
			Hints: []string{"if it sends on what comes to an address of this host, write \"early_drop: false\" in the policy, at the top level"},
			Where: Place{Table: r.Table, Chain: r.Chain},
		})
	}
	return found
}
