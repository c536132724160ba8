package preflight

import (
	"slices"

	"postern/internal/policy"
)

// knockPorts warns of knocks on ports that programs listen on: their clients would
// knock without meaning to. Each port is said once.
func (f *facts) knockPorts() []Finding {
	var found []Finding
	said := map[policy.Port]bool{}
	for i := range f.machine.Doors {
		knock := &f.machine.Doors[i].Knock
		for n, port := range knock.Sequence {
			if !said[port] && slices.Contains(f.listening, port) {
				said[port] = true
				found = append(found, aboutLine(KnockPortOpen, f.machine.Policy.Diagnose(knock.SequencePos[n],
					"a program on this host listens on the port of this knock: anyone who connects to it knocks",
					"choose a port that nothing listens on")))
			}
		}
	}
	return found
}
