package iptables

import (
	"fmt"
	"net/netip"

	"postern/internal/automaton"
	"postern/internal/document"
	"postern/internal/policy"
)

// isClassic reports whether a policy asks for what the how-to's rules do and for
// nothing else. Then it gets those rules, with their own parameters: see Machine.
//
// They rely on this: a source is on one list at most. A source that completes a knock is
// on the grant's list alone, and the next packet takes it from there, whether or not
// it is the connection.
func isClassic(p *policy.Policy) bool {
	plain := p.Posture == policy.Closed && !p.Cover.Answers() && len(p.Interfaces) == 0 && !p.HasKeys() &&
		p.Source == policy.Source{IPv4: 32, IPv6: 128} && p.Admitted == policy.Admitted{}
	services := map[policy.Port]bool{}
	for i := range p.Doors {
		d := &p.Doors[i]
		plain = plain && len(d.Knock.Close) == 0 && d.Knock.Retransmits == policy.RetransmitsReset && d.Forfeit && d.Admit == policy.AdmitOne &&
			!d.Address.IsValid() && !d.Forward.IsValid() && len(d.From) == 0 &&
			len(d.Services) == 1 && d.Services[0].Protocol == policy.TCP && !services[d.Services[0]]
		services[d.Services[0]] = true
	}
	return plain
}

// classic makes the how-to's rules.
func (c *compiler) classic() {
	c.cover = drop
	input := c.base("INPUT", "DROP")
	c.base("FORWARD", "ACCEPT")
	c.base("OUTPUT", "ACCEPT")
	c.knocking = c.chain(&c.filter, "KNOCKING",
		"Where has the sender come to? Each list remembers senders, and when each was put on it.\n"+
			"The first list that has this sender, and not for too long, decides where the packet goes.")

	local := []match{by("lo")}
	if c.f == IPv4 {
		// A host that speaks to itself by another of its addresses is shut out by
		// the how-to's rule, and a resolver at 127.0.0.53, too. Guests do without.
		here := netip.MustParseAddr("127.0.0.1")
		for _, m := range []match{from(netip.PrefixFrom(here, 32)), toAddress(here)} {
			m.alone = true
			local = append(local, m)
		}
	}
	input.add("What this host sends to itself is let in.", pass, local...)
	const all = "FIN,SYN,RST,PSH,ACK,URG "
	input.add("No honest system sends TCP packets with these flags together, or with none; scanners do.",
		drop, withFlags("FIN,PSH,URG FIN,PSH,URG", "FIN,URG,PSH FIN,URG,PSH")...)
	input.add("", drop, withFlags(all+"FIN,SYN,RST,PSH,ACK,URG", "ALL ALL")...)
	input.add("", drop, withFlags(all+"NONE", "ALL NONE")...)
	input.add("", drop, withFlags("SYN,RST SYN,RST", "SYN,RST SYN,RST")...)
	input.add("Connections that the kernel knows go on, and so do answers to what this host has asked.\n"+
		"All that comes after this line is new.", pass, isKnown)
	if c.f == IPv6 {
		c.needed(input)
	}
	c.allow(input, "What needs no knock.")
	input.add("Everything else may be a knock, or the connection that a knock has opened the way for.", to(c.knocking))

	first := c.chain(&c.filter, "GATE1", "Senders with no knock to their name. All the internet's scanners come by here, so that\n"+
		"nothing is written to the log.")
	c.gates = map[automaton.StateID]*chain{automaton.Root: first}
	for i := range c.m.States {
		s := &c.m.States[i]
		gate := c.chain(&c.filter, c.gateName(s), fmt.Sprintf("Senders with %s right, so far.", knocks(len(s.Path))))
		c.gates[s.ID] = gate
	}
	for i := range c.m.Doors {
		c.classicSuccess(&c.m.Doors[i])
	}
	c.findState(c.knocking)
	c.knocking.add("Everybody else begins at the beginning.", to(first))

	for i := range c.m.States {
		s := &c.m.States[i]
		gate := c.gates[s.ID]
		gate.add("Whatever this packet is, the sender is off the list: a wrong knock means beginning again,\n"+
			"and nobody can try one port after the other from here.", nothing, c.remove(c.stateList(s)))
		if c.p.Log.Progress {
			c.log(gate, fmt.Sprintf("In knock %d: ", len(s.Path)+1))
		}
		c.classicEdges(gate, s.ID)
		gate.add("Not that port. It may still be a first knock.", to(first))
	}
	c.classicEdges(first, automaton.Root)
	first.add("Anything else is dropped, without a word.", drop)
}

// classicEdges adds the rules for the right knocks.
func (c *compiler) classicEdges(gate *chain, from automaton.StateID) {
	for _, e := range c.edges(from) {
		if e.Door >= 0 {
			d := &c.m.Doors[e.Door]
			gate.add(fmt.Sprintf("The last knock: for %s, the sender may connect. The knock itself is dropped like all else.", document.FormatDuration(d.OpenFor)),
				drop, append(c.f.on(e.On), c.set(c.grantList(d, d.Services[0])))...)
			continue
		}
		s := c.m.State(e.To)
		gate.add(fmt.Sprintf("Knock %d. The sender is remembered; the packet is dropped, so that no difference shows.", len(s.Path)),
			drop, append(c.f.on(e.On), c.set(c.stateList(s)))...)
	}
}

// classicSuccess makes the chain of those who have completed a door's knock, and the
// rule that leads there.
func (c *compiler) classicSuccess(d *automaton.Door) {
	service := d.Services[0]
	grant := c.grantList(d, service)
	success := c.chain(&c.filter, c.ofDoor("SUCCESS", d), "Senders that have knocked right, all the way.")
	success.add("The next packet is the connection, or else the chance is gone.", nothing, c.remove(grant))
	prefix := "Knock accepted!: "
	if len(c.m.Doors) > 1 {
		prefix += d.Name + " "
	}
	port := c.m.Services[service].Port
	if c.p.Log.Progress { // as in the how-to: a knock that comes again is noted, too
		c.log(success, prefix)
	} else {
		c.log(success, prefix, c.f.on(port)...)
	}
	success.add(fmt.Sprintf("The way to %s is open. It still asks who they are: a knock is no password.", port),
		pass, c.f.on(port)...)
	success.add("Not the service. It may be a first knock.", to(c.gates[automaton.Root]))
	c.knocking.add(fmt.Sprintf("All knocks right, the last no more than %s ago: on to %s.", document.FormatDuration(d.OpenFor), success.name),
		to(success), c.within(grant, d.OpenFor))
}

func knocks(n int) string {
	if n == 1 {
		return "1 knock"
	}
	return fmt.Sprintf("%d knocks", n)
}

// log adds a log line. In the how-to's rules nothing bounds how many there are;
// all others write ten a second at most.
func (c *compiler) log(ch *chain, prefix string, matches ...match) {
	doc := "Note it in the kernel log."
	if !c.isClassic {
		matches = append(matches, match{
			full: "-m limit --limit 10/sec --limit-burst 20", brief: "-m limit --limit 10/sec --limit-burst 20"})
	}
	switch c.p.Log.Target {
	case policy.LogKernel:
		ch.add(doc, target{verdict: fmt.Sprintf("-j LOG --log-prefix %q --log-level 6", cut(prefix, 29))}, matches...)
	case policy.LogNFLOG:
		verdict := fmt.Sprintf("-j NFLOG --nflog-prefix %q", cut(prefix, 63))
		if c.p.Log.Group != 0 {
			verdict += fmt.Sprintf(" --nflog-group %d", c.p.Log.Group)
		}
		ch.add(fmt.Sprintf("Note it in NFLOG group %d.", c.p.Log.Group), target{verdict: verdict}, matches...)
	}
}

// cut is a log prefix that fits; its last space goes last.
func cut(prefix string, most int) string {
	if len(prefix) <= most {
		return prefix
	}
	return prefix[:most-1] + " "
}
