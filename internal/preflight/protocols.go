package preflight

import (
	"fmt"
	"slices"

	"postern/internal/host"
	"postern/internal/paragraph"
	"postern/internal/policy"
)

// Packets of protocols without ports get in while connection tracking remembers a
// packet that this host has sent, some minutes at most. So in closed a tunnel works
// when it is tried, and stops when it has been quiet.

// tunnelCutOff warns of tunnels whose protocol allow does not let in.
func (f *facts) tunnelCutOff() []Finding {
	if !f.closes() {
		return nil
	}
	var found []Finding
	for _, t := range unnamedTunnels(f.machine.Policy, f.tunnels) {
		to, from := "", ""
		if t.Remote.IsValid() {
			to, from = " to "+t.Remote.String(), ", from: "+t.Remote.String()
		}
		found = append(found, Finding{
			Kind:     TunnelCutOff,
			Severity: Warning,
			Message: fmt.Sprintf("%s is a tunnel%s, and allow does not let in %s: after a quiet while "+
				"the other end gets through only when this host has sent something", t.Name, to, t.Protocol),
			Hints: []string{fmt.Sprintf("add to allow: {service: %s%s}", t.Protocol, from)},
			Where: Place{Interface: t.Name},
		})
	}
	return found
}

func unnamedTunnels(p *policy.Policy, all []host.Tunnel) []host.Tunnel {
	return slices.DeleteFunc(slices.Clone(all), func(t host.Tunnel) bool {
		port := policy.Port{Protocol: t.Protocol}
		return !governs(p, t.Interface) || names(p, port) ||
			slices.ContainsFunc(p.Allow, func(a policy.Allow) bool { return admits(&a, port, t.Remote, t.Interface) })
	})
}

// users are the programs that are known to receive a protocol by raw sockets.
var users = map[policy.Protocol]string{
	policy.VRRP: "keepalived", policy.OSPF: "a routing daemon", policy.EIGRP: "a routing daemon", policy.PIM: "a multicast router",
}

// protocolCutOff warns of programs that receive other protocols than TCP and UDP:
// those that agree on a router, or on routes. Nobody asks them anything, so that no
// packet to them is a reply.
func (f *facts) protocolCutOff() []Finding {
	if !f.closes() {
		return nil
	}
	var found []Finding
	for _, p := range f.rawProtocols {
		if names(f.machine.Policy, policy.Port{Protocol: p}) || slices.ContainsFunc(f.ipsec, func(q policy.Protocol) bool { return q == p }) {
			continue
		}
		who := users[p]
		if who == "" {
			who = "a program"
		}
		found = append(found, Finding{
			Kind:     ProtocolCutOff,
			Severity: Warning,
			Message:  fmt.Sprintf("%s on this host receives %s, and allow does not let it in: it hears nobody any more", who, p),
			Hints:    []string{fmt.Sprintf("add to allow: {service: %s}, with from or interface for its neighbours alone", p)},
		})
	}
	return found
}

// ike is the port at which IPsec's keys are agreed on (RFC 7296).
const ike = 500

// ipsecCutOff warns of IPsec whose packets allow does not let in. (Behind NAT they are
// in UDP; see udpCutOff.)
func (f *facts) ipsecCutOff() []Finding {
	if !f.closes() {
		return nil
	}
	protocols := slices.Clone(f.ipsec)
	agrees := slices.ContainsFunc(f.receivers, func(r host.Receiver) bool {
		return r.Local.Port() == ike && governs(f.machine.Policy, r.Interface)
	})
	if agrees && !slices.Contains(protocols, policy.ESP) {
		protocols = append(protocols, policy.ESP)
	}
	var missing, entries []string
	for _, p := range protocols {
		if !names(f.machine.Policy, policy.Port{Protocol: p}) {
			missing = append(missing, p.String())
			entries = append(entries, fmt.Sprintf("{service: %s}", p))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return []Finding{{
		Kind:     IPsecCutOff,
		Severity: Warning,
		Message: fmt.Sprintf("IPsec runs on this host, and allow does not let in %s: after a quiet while "+
			"the other end gets through only when this host has sent something", paragraph.List(missing)),
		Hints: []string{
			"add to allow: " + paragraph.List(entries),
			"what arrives inside is judged as well: list it, too",
		},
	}}
}
