package iptables

import (
	"fmt"
	"slices"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// diverting makes the rules of the nat table, which sees the first packet of a
// connection, and sees it before INPUT does. Who holds a grant for a service on
// another host is sent there; what is hidden on this one is kept from being sent
// elsewhere by others (a published container port, say), where no rule of ours would see it.
func (c *compiler) diverting() {
	pre := &chain{name: "PREROUTING", policy: "ACCEPT"}
	c.nat = append(c.nat, pre)
	for _, name := range []string{"INPUT", "OUTPUT"} {
		c.nat = append(c.nat, &chain{name: name, policy: "ACCEPT"})
	}
	post := &chain{name: "POSTROUTING", policy: "ACCEPT"}
	c.nat = append(c.nat, post)

	arrive := c.arriving(&c.nat, pre, "What comes in by these interfaces is looked at. All else is left alone.")
	arrive.add("What is for other hosts is left alone.", pass, toOthers)
	for i := range c.m.Services {
		if s := &c.m.Services[i]; s.Forward.IsValid() && c.reachable(s) {
			c.divert(arrive, i)
			if s.Masquerade {
				c.masquerade(post, s)
			}
		}
	}
	c.allow(arrive, "What needs no knock is left to others, if they want it.")
	if c.p.Posture == policy.Closed {
		arrive.add("All else is for this host, and is not diverted.", keep)
		return
	}
	doc := "What is hidden is for this host, and is not diverted."
	for i := range c.m.Services {
		if s := &c.m.Services[i]; c.reachable(s) {
			arrive.add(doc, keep, c.addressed(s)...)
			doc = ""
		}
	}
}

// divert sends the connections to a service on to the host that it is on: those
// that need no knock, and those of who holds a grant.
func (c *compiler) divert(ch *chain, service int) {
	s := &c.m.Services[service]
	there := target{verdict: "-j DNAT --to-destination " + s.Forward.String()}
	asked := c.addressed(s)
	if s.Port.Protocol == policy.TCP {
		asked[1] = openingTo(asked[1])
	}
	doc := fmt.Sprintf("Who needs no knock for %s is sent on to %s.", s.Port, s.Forward)
	for i := range c.p.Allow {
		a := &c.p.Allow[i]
		meant := a.Service == policy.Service{} || a.Service.Covers(s.Port)
		if meant && (!a.From.IsValid() || c.f.of(a.From.Addr())) {
			ch.add(doc, there, append(c.senderMatches(a), asked...)...)
			doc = ""
		}
	}
	doc = fmt.Sprintf("Who has knocked right for %s is sent on to %s.", s.Port, s.Forward)
	there = c.divertMarked(s, there)
	for _, g := range s.Grants {
		if d := &c.m.Doors[c.m.Grants[g].Door]; c.serves(d) {
			// Without the protocol iptables takes no port to send on to.
			accepted := c.accepted(&c.nat, d, there, matching("-p %s", s.Port.Protocol))
			ch.add(doc, accepted, slices.Concat(asked, c.holds(d, service))...)
			doc = ""
		}
	}
}

// masquerade returns forwarded connections this host's address.
func (c *compiler) masquerade(ch *chain, s *automaton.Service) {
	ch.add(fmt.Sprintf("So that answers from %s find back.", s.Forward.Addr()), target{verdict: "-j MASQUERADE"},
		slices.Concat(
			[]match{toAddress(s.Forward.Addr())},
			c.f.on(policy.Port{Protocol: s.Port.Protocol, Number: s.Forward.Port()}),
			[]match{matching("-m conntrack --ctstate DNAT --ctorigdstport %d", s.Port.Number)},
		)...)
}

// diverts reports whether NAT rules of others in a table can send hidden packets
// elsewhere. In "ip nat" our rules come first and keep them; the kernel asks every
// other table, whatever ours say. The how-to's rules have no nat table.
func diverts(m *automaton.Machine, table string) bool {
	return isClassic(m.Policy) || table != "ip nat" && table != "ip6 nat"
}
