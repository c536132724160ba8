package preflight

import "fmt"

// forwarding refuses a door to another host where this one does not forward
// packets: it could not work.
func (f *facts) forwarding() []Finding {
	for i, missing := range f.noForward {
		if missing.Name == "" {
			continue
		}
		d := &f.machine.Doors[i]
		return []Finding{{
			Kind:     ForwardingOff,
			Severity: Error,
			Message: fmt.Sprintf("door %s leads to %s, and this host does not forward packets (%s is 0)",
				d.Name, d.Forward, missing.Name),
			Hints: []string{
				fmt.Sprintf("turn it on with \"sysctl %s=%s\", and in /etc/sysctl.d to keep it after a reboot", missing.Name, missing.Value),
				"this makes the host a router: check its forward rules as well",
			},
		}}
	}
	return nil
}
