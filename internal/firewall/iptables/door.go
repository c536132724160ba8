package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	"postern/internal/automaton"
	"postern/internal/document"
	"postern/internal/policy"
)

// holders adds rule 2 of the automaton, for the services of this host: who holds a
// grant is let in. A grant for one connection is taken off the list by the same rule
// that lets in, so that no two packets have it, whichever processors judge them.
func (c *compiler) holders() {
	doc := "Who has knocked right may connect. The service still asks who they are: a knock is no password."
	for service := range c.m.Services {
		s := &c.m.Services[service]
		if !c.reachable(s) || s.Forward.IsValid() {
			continue
		}
		for _, g := range s.Grants {
			d := &c.m.Doors[c.m.Grants[g].Door]
			c.knocking.add(doc, c.accepted(&c.filter, d, c.admitted), slices.Concat(c.addressed(s), c.holds(d, service))...)
			doc = ""
		}
	}
}

// accepted returns where what a door admits goes: on to a target, with a line in the
// log, if the policy wants one. The matches before it have taken the grant: nothing is
// logged of a packet that is not admitted.
func (c *compiler) accepted(in *[]*chain, d *automaton.Door, on target, matches ...match) target {
	if c.p.Log.Target == policy.LogNone {
		return on
	}
	at := doorIn{in, d}
	if c.accepting[at] == nil {
		ch := c.chain(in, c.ofDoor("ACCEPTED", d), "What the door "+d.Name+" admits.")
		c.log(ch, "Knock accepted!: "+d.Name+" ")
		ch.add("", on, matches...)
		c.accepting[at] = ch
	}
	return to(c.accepting[at])
}

// A doorIn is a door, in a table: filter or nat.
type doorIn struct {
	table *[]*chain
	door  *automaton.Door
}

// holds matches sources that hold a door's grant for a service, and uses it up
// where it is good for one connection.
func (c *compiler) holds(d *automaton.Door, service int) []match {
	grant := c.grantList(d, service)
	matches := []match{c.within(grant, d.OpenFor)}
	if d.Admit == policy.AdmitOne {
		matches = append(matches, c.remove(grant))
	}
	return matches
}

// lastKnocks makes what the last knocks lead to: who may have the grants, and the grants.
func (c *compiler) lastKnocks() {
	c.doors = make([]target, len(c.m.Doors))
	c.inline = make([][]match, len(c.m.Doors))
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		if len(d.Knock.Sequence) == 0 {
			continue
		}
		from, anyone := c.senders(d.From)
		switch {
		case !c.serves(d) || !anyone && len(from) == 0: // no source of this family may
			c.doors[i] = c.cover
		case len(from) == 0 && c.grantsOnly(i):
			c.doors[i] = c.cover
			c.inline[i] = []match{c.set(c.grantList(d, d.Services[0]))}
		default:
			c.doors[i] = to(c.door(i, from))
		}
	}
}

// senders returns those of the networks that a policy names which are of the family; none, if
// anyone may send.
func (c *compiler) senders(named []netip.Prefix) (from []netip.Prefix, anyone bool) {
	anyone = len(named) == 0
	for _, p := range named {
		if c.f.of(p.Addr()) {
			from = append(from, p)
			anyone = anyone || p.Bits() == 0 // whose opposite iptables does not take
		}
	}
	if anyone {
		from = nil
	}
	return from, anyone
}

// closings makes the chains of the last knocks that close doors.
func (c *compiler) closings() {
	c.closes = make([]target, len(c.m.Doors))
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		c.closes[i] = c.cover
		if len(d.Knock.Close) == 0 || !c.serves(d) {
			continue
		}
		ch := c.chain(&c.filter, c.ofDoor("CLOSE", d), "The last knock that closes the door "+d.Name+": what it has granted to the sender is gone.")
		c.take(ch, d)
		ch.add("", c.cover)
		c.closes[i] = to(ch)
	}
}

// take adds the rules that take a door's grants from the sender.
func (c *compiler) take(ch *chain, d *automaton.Door) {
	for _, service := range d.Services {
		ch.add("", nothing, c.remove(c.grantList(d, service)))
	}
}

// grantsOnly reports whether a door's last knock does nothing but put the source on one list.
func (c *compiler) grantsOnly(door int) bool {
	d := &c.m.Doors[door]
	return len(d.Services) == 1 && c.opened(door) == nil
}

// opened returns the state that a door leaves a source in, or nil.
func (c *compiler) opened(door int) *automaton.State {
	i := slices.IndexFunc(c.m.Edges, func(e automaton.Edge) bool { return e.Door == door && !e.Closes })
	if i < 0 { // it has no last knock
		return nil
	}
	return c.m.State(c.m.Edges[i].To)
}

// door makes the chain of a last knock.
func (c *compiler) door(i int, from []netip.Prefix) *chain {
	d := &c.m.Doors[i]
	ch := c.chain(&c.filter, c.ofDoor("OPEN", d), "The last knock of the door "+d.Name+".")
	first := ch
	switch {
	case len(from) == 1:
		ch.add("Others may knock as they like.", c.cover, notFrom(from[0]))
	case len(from) > 1:
		ch = c.chain(&c.filter, c.ofDoor("GRANT", d), "Who may have what the door "+d.Name+" hides.")
		doc := "Who sends from these networks may have it."
		for _, p := range from {
			first.add(doc, to(ch), address("-s", p))
			doc = ""
		}
		first.add("Others may knock as they like.", c.cover)
	}
	c.give(ch, i, opensDoor)
	ch.add("The knock itself gets what every other packet gets that is not let in.", c.cover)
	return first
}

// give adds the rules that give a door's grants. One of them counts, by a comment, how often.
func (c *compiler) give(ch *chain, door int, opens string) {
	d := &c.m.Doors[door]
	for i, service := range d.Services {
		s := &c.m.Services[service]
		may := fmt.Sprintf("For %s, the sender may connect to %s", document.FormatDuration(d.OpenFor), s.Port)
		if s.Forward.IsValid() {
			may += ", which is at " + s.Forward.String()
		}
		set := c.set(c.grantList(d, service))
		if i == 0 {
			set.opens = opens + d.Name
		}
		ch.add(may+".", nothing, set)
	}
	if s := c.opened(door); s != nil {
		ch.add("What it has knocked may come again, and costs it nothing.", nothing, c.enter(s)...)
	}
}
