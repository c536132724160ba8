package preflight

import (
	"fmt"
	"net/netip"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/policy"
)

// blockedCaller refuses a policy that keeps its caller from logging in again, or
// cuts off what carries the session that they have.
func (f *facts) blockedCaller() []Finding {
	if f.loaded { // it is too late
		return nil
	}
	var found []Finding
	for i, way := range f.wayIn {
		b := f.blocks(way)
		if b == nil {
			continue
		}
		exempt := fmt.Sprintf("or list it in allow: {service: %s}", b.port)
		if way.Remote.Addr().IsValid() {
			exempt = fmt.Sprintf("or exempt that address from knocking, in allow: {service: %s, from: %s}", b.port, way.Remote.Addr())
		}
		finding := Finding{Kind: CallerBlocked, Severity: Error, Message: b.message(i == 0), Hints: []string{b.wayBack(), exempt}}
		if way.Protocol == policy.TCP {
			finding.Hints = append(finding.Hints, "this session stays open; open a second one to fall back on")
		}
		found = append(found, finding)
	}
	return found
}

// blocks asks for the port that the backend's rules judge: the one that the packets
// were sent to, or, where NAT rules come first, the one that they lead to. In guard
// the nftables rules leave the first alone unless it is hidden, and see the second later.
func (f *facts) blocks(way host.Way) *blocked {
	_, late := f.backend.(firewall.Diverted)
	var b *blocked
	if !late {
		b = blocks(f.machine, way, way.Original)
	}
	allowed := f.machine.Policy.Posture == policy.Guard && allows(f.machine.Policy, way, way.Original)
	if late || b == nil && f.machine.Policy.Posture == policy.Guard && !allowed {
		b = blocks(f.machine, way, way.Local)
	}
	return b
}

// A blocked way is one that the caller's packets come by, and would not any more.
type blocked struct {
	host.Way
	port policy.Port     // that is blocked
	door *automaton.Door // one that they may knock at; nil if there is none
}

// blocks reports whether the policy keeps new packets to a port from a way in; nil if
// not. A TCP connection that is there goes on in any case.
func blocks(m *automaton.Machine, way host.Way, at netip.AddrPort) *blocked {
	p := m.Policy
	elsewhere := len(p.Interfaces) > 0 && way.Through != "" && !slices.Contains(p.Interfaces, way.Through)
	if elsewhere || way.Through == "lo" || way.Local.Addr().IsLoopback() || allows(p, way, at) {
		return nil
	}
	port, from := policy.Port{Protocol: way.Protocol, Number: at.Port()}, way.Remote.Addr()
	service := m.ServiceAt(at.Addr(), port)
	if service == nil && p.Posture == policy.Guard {
		return nil
	}
	b := &blocked{Way: way, port: port}
	if service == nil {
		return b
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		opens := slices.ContainsFunc(d.Services, func(at int) bool { return &m.Services[at] == service })
		if opens && (!from.IsValid() || d.HasFamilyOf(from) && d.AcceptsFrom(from)) {
			b.door = d
			break
		}
	}
	return b
}

// allows reports whether allow lets new packets to a port in.
func allows(p *policy.Policy, way host.Way, at netip.AddrPort) bool {
	port, from := policy.Port{Protocol: way.Protocol, Number: at.Port()}, way.Remote.Addr()
	return slices.ContainsFunc(p.Allow, func(a policy.Allow) bool { return admits(&a, port, from, way.Through) })
}

func admits(a *policy.Allow, port policy.Port, from netip.Addr, through string) bool {
	return (a.Service == policy.Service{} || a.Service.Covers(port)) &&
		(!a.From.IsValid() || a.From.Contains(from)) &&
		(a.Interface == "" || a.Interface == through)
}

// message says what is blocked. The first way is the log-in, the others carry it.
func (b *blocked) message(login bool) string {
	from, where := "", ""
	if b.Remote.Addr().IsValid() {
		from = " from " + b.Remote.Addr().String()
	}
	if b.Original != b.Local {
		where = fmt.Sprintf(" at %s, which a NAT rule sends on to port %d", b.Port(), b.Local.Port())
	}
	switch {
	case !login:
		return fmt.Sprintf("your log-in comes through a tunnel of this host; this policy would block new packets of %s to %s%s",
			b.By, b.port, from)
	case b.Protocol == policy.TCP:
		return fmt.Sprintf("you are logged in over %s%s%s; this policy would block new logins from there", b.By, from, where)
	}
	return fmt.Sprintf("you are logged in over %s%s; this policy would cut off %s, by which it comes", b.By, from, b.port)
}

// wayBack says how the caller gets in again. It names no knock: what is said here may
// end in a log.
func (b *blocked) wayBack() string {
	if b.door == nil {
		return fmt.Sprintf("there is no way back: no door opens %s to %s", b.port, b.sender())
	}
	if len(b.door.Knock.Sequence) == 0 {
		return fmt.Sprintf("the way back is door %s, which opens to keys: \"postern user show NAME\" prints a key's link, for the client to import", b.door.Name)
	}
	return fmt.Sprintf("the way back is door %s: \"postern share %s\" prints its knocks, for the client to import", b.door.Name, b.door.Name)
}

func (b *blocked) sender() string {
	if from := b.Remote.Addr(); from.IsValid() {
		return from.String()
	}
	return "others"
}
