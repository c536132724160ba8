package iptables

import (
	"fmt"
	"time"

	"postern/internal/automaton"
	"postern/internal/document"
)

// knocks makes the chains that run the automaton.
func (c *compiler) knocks() {
	c.knocking = c.chain(&c.filter, "KNOCKING", "Packets that would open a new connection. What has the sender done before?")
	var progress *chain
	if len(c.m.States) > 0 {
		progress = c.chain(&c.filter, "PROGRESS", "Senders that have begun to knock. Which knock is next?")
	}
	c.gates = map[automaton.StateID]*chain{}
	first := c.chain(&c.filter, "GATE1", "Senders without a knock.")
	for i := range c.m.States {
		s := &c.m.States[i]
		doc := fmt.Sprintf("Senders with %s right, so far.", knocks(len(s.Path)))
		if _, closes := c.leadsTo(s); closes {
			doc = fmt.Sprintf("Senders with %s right to close a door.", knocks(len(s.Path)))
		}
		if s.Opened {
			doc = "Senders that have just completed a knock. A repeated knock forfeits nothing."
		}
		c.gates[s.ID] = c.chain(&c.filter, c.gateName(s), doc)
	}
	c.forfeiting()
	c.lastKnocks()
	c.closings()

	c.holders()
	if progress != nil {
		c.inProgress(progress, first)
	}
	c.stray(c.knocking)
	c.knocking.add("All others begin at the beginning.", to(first))

	for i := range c.m.States {
		c.gate(&c.m.States[i], first)
	}
	c.first(first)
}

// inProgress fills the chain of sources with any progress. A scan costs one look at one
// list, however many doors there are; only who has knocked is looked for on them all.
func (c *compiler) inProgress(ch, first *chain) {
	c.knocking.add("Senders that have begun to knock are looked up in more lists.", to(ch), c.within(c.progressList(), c.longestStay()))
	c.findState(ch)
	c.stray(ch)
	ch.add("That was too long ago. They begin at the beginning, too.", to(first))
}

// progressList is the list of all sources that are on any state's list. Both are set, and
// left, together.
func (c *compiler) progressList() *recentList {
	return &recentList{alone: c.listName("PROGRESS"), shared: c.masked(c.listName(prefix + "PROGRESS"))}
}

func (c *compiler) longestStay() time.Duration {
	var longest time.Duration
	for i := range c.m.States {
		longest = max(longest, c.m.States[i].Timeout)
	}
	return longest
}

// enter puts a source into a state.
func (c *compiler) enter(s *automaton.State) []match {
	return []match{c.set(c.stateList(s)), c.set(c.progressList())}
}

// stay gives a source that is still in a state the whole time again. One that a packet
// on another processor has just taken out of it does not come back.
func (c *compiler) stay(s *automaton.State) []match {
	return []match{c.renew(c.stateList(s)), c.set(c.progressList())}
}

// leave takes it out of the state that it is in.
func (c *compiler) leave(s *automaton.State) []match {
	return []match{c.remove(c.stateList(s)), c.remove(c.progressList())}
}

// findState adds the rules that find out how far a source has come.
func (c *compiler) findState(ch *chain) {
	for _, s := range c.deepest() {
		doc := fmt.Sprintf("%s right, the last no more than %s ago: on to %s.", knocks(len(s.Path)), document.FormatDuration(s.Timeout), c.gates[s.ID].name)
		if s.Opened {
			doc = fmt.Sprintf("The last knock was no more than %s ago: on to %s.", document.FormatDuration(s.Timeout), c.gates[s.ID].name)
		}
		ch.add(doc, to(c.gates[s.ID]), c.within(c.stateList(s), s.Timeout))
	}
}

// gate fills the chain of a state: rule 4 of the automaton.
func (c *compiler) gate(s *automaton.State, first *chain) {
	gate := c.gates[s.ID]
	doc := "Nothing new: it was knocked before, or is the service itself. The time begins again."
	for _, port := range s.Loops {
		gate.add(doc, c.cover, append(c.f.on(port), c.stay(s)...)...)
		doc = ""
	}
	edges := c.edges(s.ID)
	for _, e := range edges {
		if e.KeepsGrants {
			// The packet that takes the sender off the list moves it on: no two packets do.
			c.edge(gate, e, "The next knocks begin, and the sender keeps its grants.", c.remove(c.stateList(s)))
		}
	}
	c.stray(gate)
	gate.add("Whatever this packet is, the sender is off the list.", nothing, c.leave(s)...)
	if !s.Opened && c.p.Log.Progress {
		c.log(gate, fmt.Sprintf("In knock %d: ", len(s.Path)+1))
	}
	for _, e := range edges {
		if !e.KeepsGrants {
			c.edge(gate, e, fmt.Sprintf("Knock %d.", len(s.Path)+1))
		}
	}
	gate.add("Not that port. It may still be a first knock.", to(first))
}

// first fills the chain of senders with no progress: rule 5 of the automaton.
func (c *compiler) first(gate *chain) {
	budget := c.m.Parameters.Attempts
	full := fmt.Sprintf("-m hashlimit --hashlimit-upto %d/sec --hashlimit-burst %d --hashlimit-mode srcip --hashlimit-name %%s",
		budget.Rate, budget.Burst)
	shared := c.listName("POSTERN") // old kernels: 15 letters, with the prefix length
	if bits := automaton.AttemptPrefix(c.p.Source, c.f.sample()).Bits(); bits != c.f.bits() {
		full += fmt.Sprintf(" --hashlimit-srcmask %d", bits)
		shared += fmt.Sprintf("-%d", bits)
	}
	within := match{full: full, list: &recentList{alone: c.listName("FIRST"), shared: shared}}
	doc := "A first knock. Each sender may make a few a second."
	for _, e := range c.edges(automaton.Root) {
		c.edge(gate, e, doc, within)
		doc = ""
	}
	gate.add("Anything else.", c.cover)
}

// edge adds the rule for one knock.
func (c *compiler) edge(gate *chain, e *automaton.Edge, doc string, more ...match) {
	matches := append(c.f.on(e.On), more...)
	if e.Closes {
		gate.add(doc, c.closes[e.Door], matches...)
		return
	}
	if e.Door >= 0 {
		if c.doors[e.Door] == c.cover && len(c.inline[e.Door]) == 0 {
			doc += fmt.Sprintf(" Over IPv%d it opens nothing.", c.f)
		}
		gate.add(doc, c.doors[e.Door], append(matches, c.inline[e.Door]...)...)
		return
	}
	gate.add(doc, c.cover, append(matches, c.enter(c.m.State(e.To))...)...)
}

// stray takes the grants that a packet which is not let in loses.
func (c *compiler) stray(ch *chain) {
	if c.forget != nil {
		ch.add("It is not what the grant was for.", to(c.forget))
	}
}

// forfeiting makes the chain that does.
func (c *compiler) forfeiting() {
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		if !d.Forfeit || !c.serves(d) {
			continue
		}
		if c.forget == nil {
			c.forget = c.chain(&c.filter, "FORFEIT", "The sender loses its grants for doors with forfeit.")
			c.forget.sub = true
		}
		c.take(c.forget, d)
	}
}

// addressed matches packets to a service.
func (c *compiler) addressed(s *automaton.Service) []match {
	matches := c.f.on(s.Port)
	if s.Address.IsValid() {
		matches = append(matches, toAddress(s.Address))
	}
	return matches
}
