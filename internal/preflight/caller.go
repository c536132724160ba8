package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

// A caller is the person who runs the program, logged in from elsewhere.
type caller struct {
	host.Session
	through string // the interface under which their packets arrive; "" if that is not known
}

// blockedCaller refuses a policy that keeps its caller from logging in again.
func (f *facts) blockedCaller() []Finding {
	if f.caller == nil || f.loaded { // or it is too late
		return nil
	}
	b := blocks(f.machine, *f.caller)
	if b == nil {
		return nil
	}
	return []Finding{{
		Kind:     CallerBlocked,
		Severity: Error,
		Message:  fmt.Sprintf("you are logged in over SSH from %s; this policy would block new logins from there", b.From),
		Hints: []string{
			b.wayBack(),
			fmt.Sprintf("or exempt that address from knocking, in allow: {service: %s, from: %s}", b.port, b.From),
			"this session stays open; open a second one to fall back on",
		},
	}}
}

// A blocked caller is kept from the port that they are logged in through.
type blocked struct {
	caller
	port policy.Port
	door *automaton.Door // one that they may knock at; nil if there is none
}

// blocks reports whether the policy keeps a caller from the port that they are
// logged in through; nil if not. The connection that they have goes on in any case.
func blocks(m *automaton.Machine, c caller) *blocked {
	p := m.Policy
	elsewhere := len(p.Interfaces) > 0 && c.through != "" && !slices.Contains(p.Interfaces, c.through)
	if elsewhere || c.through == "lo" || c.To.Addr().IsLoopback() {
		return nil
	}
	port := policy.Port{Protocol: policy.TCP, Number: c.To.Port()}
	for i := range p.Allow {
		if admits(&p.Allow[i], port, c.From, c.through) {
			return nil
		}
	}
	service := m.ServiceAt(c.To.Addr(), port)
	if service == nil && p.Posture == policy.Guard {
		return nil
	}
	b := &blocked{caller: c, port: port}
	if service == nil {
		return b
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		opens := slices.ContainsFunc(d.Services, func(at int) bool { return &m.Services[at] == service })
		if opens && d.HasFamilyOf(c.From) && d.AcceptsFrom(c.From) {
			b.door = d
			break
		}
	}
	return b
}

func admits(a *policy.Allow, port policy.Port, from netip.Addr, through string) bool {
	return (a.Service == policy.Service{} || a.Service.Covers(port)) &&
		(!a.From.IsValid() || a.From.Contains(from)) &&
		(a.Interface == "" || a.Interface == through)
}

// wayBack says how the caller gets in again.
func (b *blocked) wayBack() string {
	if b.door == nil {
		return fmt.Sprintf("there is no way back: no door opens %s to %s", b.port, b.From)
	}
	knocks := ""
	for _, port := range b.door.Knock.Sequence {
		knocks += " " + knockArgument(port)
	}
	return fmt.Sprintf("the way back: postern knock %s%s", b.To.Addr(), knocks)
}

// knockArgument returns a knock as it is typed.
func knockArgument(p policy.Port) string {
	switch p.Protocol {
	case policy.TCP:
		return strconv.Itoa(int(p.Number))
	case policy.UDP:
		return strconv.Itoa(int(p.Number)) + ":udp"
	}
	return p.String()
}
