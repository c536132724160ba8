//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"net"
	"slices"

	"postern/internal/cli/ui"
	"postern/internal/host"
	"postern/internal/policy"
)

// absentInterfaces warns of a policy that holds on interfaces which this host
// does not have: it would hide nothing.
func absentInterfaces(p *policy.Policy) []ui.Remark {
	var absent []string
	for _, name := range p.Interfaces {
		if _, err := net.InterfaceByName(name); err != nil {
			absent = append(absent, name)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	return []ui.Remark{aboutAbsent(absent, len(absent) == len(p.Interfaces))}
}

// An enslaved is an interface that a policy names and no packet comes in by: its
// packets are its master's by the time that they are judged.
type enslaved struct {
	name, master string // the master is "" if it cannot be told
	instead      []string
}

// enslavedInterface finds the first of the interfaces that the policy should name
// otherwise; nil if there is none. What comes in by it would be let in.
func enslavedInterface(p *policy.Policy) (*enslaved, error) {
	if len(p.Interfaces) == 0 {
		return nil, nil
	}
	masters, err := host.Masters()
	if err != nil {
		return nil, err
	}
	return passedOver(p.Interfaces, masters), nil
}

// passedOver finds the first of the interfaces that belongs to a master which is
// not among them.
func passedOver(interfaces []string, masters map[string]string) *enslaved {
	var found *enslaved
	var instead []string
	for _, name := range interfaces {
		master, is := masters[name]
		if is && found == nil && !slices.Contains(interfaces, master) {
			found = &enslaved{name: name, master: master}
		}
		if is && master != "" {
			name = master
		}
		if !slices.Contains(instead, name) {
			instead = append(instead, name)
		}
	}
	if found != nil {
		found.instead = instead
	}
	return found
}
