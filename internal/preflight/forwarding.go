package preflight

import (
	"fmt"

	"postern/internal/paragraph"
)

// forwarding refuses a door to another host where this one does not forward
// packets: it could not work.
func (f *facts) forwarding() []Finding {
	var found []Finding
	said := map[string]bool{}
	for i, missing := range f.noForward {
		if missing.Name == "" || said[missing.Name] {
			continue
		}
		said[missing.Name] = true
		var doors []string
		for j := range f.machine.Doors {
			if f.noForward[j] == missing {
				doors = append(doors, f.machine.Doors[j].Name)
			}
		}
		lead := fmt.Sprintf("doors %s lead to other hosts", paragraph.List(doors))
		if len(doors) == 1 {
			lead = fmt.Sprintf("door %s leads to %s", doors[0], f.machine.Doors[i].Forward)
		}
		found = append(found, Finding{
			Kind:     ForwardingOff,
			Severity: Error,
			Message:  fmt.Sprintf("%s, and this host does not forward packets (%s is 0)", lead, missing.Name),
			Hints: []string{
				fmt.Sprintf("turn it on with \"sysctl %s=%s\", and in /etc/sysctl.d to keep it after a reboot", missing.Name, missing.Value),
				"this makes the host a router: check its forward rules as well",
			},
		})
	}
	return found
}
