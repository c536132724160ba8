//go:build !(386 || arm || mips || mipsle)

package cli

import (
	"net/netip"
	"os"
	"slices"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/policy"
)

// A shutOutCaller is somebody whom a policy keeps out of the port they came in by.
type shutOutCaller struct {
	host.Session
	port policy.Port
	door *automaton.Door // one that they may knock at instead; nil if there is none
}

// shutsCallerOut tells whether a policy keeps whoever runs us out of the port that
// they came in by.
func shutsCallerOut(m *automaton.Machine) *shutOutCaller {
	s, ok := host.Caller("/proc", os.Getpid())
	if !ok {
		return nil
	}
	through, here := host.Interface(s.To.Addr())
	if !here { // they came in to another network namespace, which is left alone
		return nil
	}
	if masters, err := host.Masters(); err == nil && masters[through] != "" {
		through = masters[through] // as of an address in a VRF
	}
	return shutsOut(m, s, through)
}

// shutsOut tells whether a policy keeps the caller out of the port that they
// came in by, on an interface; nil if not. The connection that they have goes on
// in any case.
func shutsOut(m *automaton.Machine, s host.Session, through string) *shutOutCaller {
	p := m.Policy
	if len(p.Interfaces) > 0 && through != "" && !slices.Contains(p.Interfaces, through) || through == "lo" || s.To.Addr().IsLoopback() {
		return nil
	}
	port := policy.Port{Protocol: policy.TCP, Number: s.To.Port()}
	for i := range p.Allow {
		if admits(&p.Allow[i], port, s.From, through) {
			return nil
		}
	}
	service := m.ServiceAt(s.To.Addr(), port)
	if service == nil && p.Posture == policy.Guard {
		return nil
	}
	out := &shutOutCaller{Session: s, port: port}
	if service == nil {
		return out
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		opens := slices.ContainsFunc(d.Services, func(at int) bool { return &m.Services[at] == service })
		if opens && d.HasFamilyOf(s.From) && d.AcceptsFrom(s.From) {
			out.door = d
			break
		}
	}
	return out
}

func admits(a *policy.Allow, port policy.Port, from netip.Addr, through string) bool {
	return (a.Service == policy.Service{} || a.Service.Covers(port)) &&
		(!a.From.IsValid() || a.From.Contains(from)) &&
		(a.Interface == "" || a.Interface == through)
}
