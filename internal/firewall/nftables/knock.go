//go:build linux

package nftables

import (
	"fmt"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// An inputKind is one kind of input: packets to a port, or echo requests, which
// have none. Each has tables and chains of its own, of the same shape.
type inputKind struct {
	suffix string
	lookup []field // the fields by which an input is looked up, after the state
	key    []datatype
	parts  func(policy.Port) []part
	holds  func(policy.Port) bool

	step, opens, stay *set
	spared            *set          // inputs in a state that lose no grant
	first             []policy.Port // the inputs that root has edges for
	begins            ports         // the same
	known, unknown    *chain        // for a source with and without progress
}

// knocks makes the tables of the automaton, the chains that walk them, and what
// leads there from the hooks.
func (c *compiler) knocks() {
	isICMP := func(p policy.Port) bool { return p.Protocol == policy.ICMP }
	ports := &inputKind{
		lookup: []field{protocol, port}, key: []datatype{nft.TypeInetProto, nft.TypeInetService},
		parts: portParts, holds: func(p policy.Port) bool { return !isICMP(p) },
	}
	echo := &inputKind{
		suffix: "_echo", parts: func(policy.Port) []part { return nil }, holds: isICMP,
	}
	c.doorChains()
	c.tables(ports, "protocol and port")
	c.tables(echo, "an echo request")
	c.gates()
	c.moving()

	c.judge = c.newChain("judge", "A packet that would open a new connection to this host.")
	c.asked = c.newChain("asked", "A packet to a port behind which something is hidden.")
	judgeEcho := c.newChain("judge_echo", "An echo request of no known flow.")
	spend := c.spending()
	c.walk(ports, spend)
	c.walk(echo, spend)

	c.syn.add(c.governed(), isSYN, toThisHost, goTo(c.judge))
	c.refuseLate()
	c.packet.add(isConfirmed, accept)
	c.packet.add(isEstablished, accept)
	c.dropIPOptions()
	c.strays()
	c.dhcp(c.packet)
	c.packet.add(c.governed(), isProto(policy.UDP), toThisHost, goTo(c.judge))
	for _, f := range families {
		c.packet.add(c.governed(), isEcho(f), toThisHost, goTo(judgeEcho))
	}
	if c.allow != nil {
		c.judge.add(jump(c.allow))
		judgeEcho.add(jump(c.allow))
	}
	onPorts(c.judge, c.hidden, goTo(c.asked))
	c.progress(c.judge, ports)
	c.progress(judgeEcho, echo)
	c.admitting(ports)
}

// tables makes the tables of a kind of input: its part of the automaton.
func (c *compiler) tables(a *inputKind, input string) {
	table := func(name, doc string) *set {
		return &set{name: name + a.suffix, doc: doc, key: append([]datatype{nft.TypeClassID}, a.key...)}
	}
	a.step = table("step", "The knocks: state, "+input+" -> next state.")
	a.step.data = &nft.TypeClassID
	a.opens = table("opens", "The last knocks: state, "+input+" -> the door.")
	a.opens.verdict = true
	a.stay = table("stay", "What leaves a source in its state: repeated knocks, and the service itself.")
	a.spared = table("spared", "What does not forfeit a grant: the first knock, soon after the last.")

	for i := range c.m.Edges {
		e := &c.m.Edges[i]
		if !a.holds(e.On) {
			continue
		}
		at := elementOf(append([]part{idPart(uint32(e.From))}, a.parts(e.On)...)...)
		if e.KeepsGrants {
			a.spared.elements = append(a.spared.elements, at)
		}
		if e.Door >= 0 {
			a.opens.elements = append(a.opens.elements, at.goingTo(c.doors[e.Door]))
		} else {
			a.step.elements = append(a.step.elements, at.to(uint32(e.To)))
		}
		if e.From == automaton.Root {
			a.first = append(a.first, e.On)
		}
	}
	for i := range c.m.States {
		s := &c.m.States[i]
		for _, on := range s.Loops {
			if a.holds(on) {
				a.stay.elements = append(a.stay.elements, elementOf(append([]part{idPart(uint32(s.ID))}, a.parts(on)...)...))
			}
		}
	}
	for _, s := range []*set{a.step, a.opens, a.stay, a.spared} {
		if len(s.elements) > 0 {
			c.newSet(s)
		}
	}
	if len(a.lookup) > 0 {
		a.begins = c.newPorts("begins", "The first knocks.", slices.Values(a.first))
	}
}

// gates makes the chains that log a packet from a source that is knocking, and
// the table that leads to them.
func (c *compiler) gates() {
	if c.p.Log.Target == policy.LogNone {
		return
	}
	gate := &set{
		name: "gate", doc: "Which knock comes next in this state.",
		key: []datatype{nft.TypeClassID}, verdict: true,
	}
	chains := map[int]*chain{}
	for i := range c.m.States {
		s := &c.m.States[i]
		if s.Opened {
			continue
		}
		next := len(s.Path) + 1
		if chains[next] == nil {
			chains[next] = c.newChain(fmt.Sprintf("gate%d", next), "")
			chains[next].add(logRate, logLine(c.p.Log, fmt.Sprintf("In knock %d: ", next)))
		}
		gate.elements = append(gate.elements, elementOf(idPart(uint32(s.ID))).jumpingTo(chains[next]))
	}
	if len(gate.elements) > 0 {
		c.gate = c.newSet(gate)
	}
}

// moving makes the chain that puts a source into the state carried: one for
// each step timeout, where they differ.
func (c *compiler) moving() {
	put := func(ch *chain, timeout time.Duration) {
		for _, f := range families {
			ch.add(insert(c.live.at[f], timeout, c.source(f)).with(carried))
		}
		ch.add(goTo(c.cover))
	}
	timeouts := c.timeouts()
	if len(timeouts) == 0 {
		return
	}
	c.move = c.newChain("move", "The source moves to the state carried.")
	if len(timeouts) == 1 {
		put(c.move, timeouts[0])
		return
	}
	pace := c.newSet(&set{
		name: "pace", doc: "The step timeout of each state.", key: []datatype{nft.TypeClassID}, verdict: true,
	})
	chains := map[time.Duration]*chain{}
	for _, t := range timeouts {
		chains[t] = c.newChain("move_"+durationText(t), "")
		put(chains[t], t)
	}
	for i := range c.m.States {
		s := &c.m.States[i]
		pace.elements = append(pace.elements, elementOf(idPart(uint32(s.ID))).goingTo(chains[s.Timeout]))
	}
	c.move.add(verdict(pace, carried))
}

// spending makes the chain that takes a first knock from the source's budget,
// and refuses the packet when there is none left. Ports and echo requests share it:
// each rule hashes with a seed of its own, so two would be two budgets.
func (c *compiler) spending() *chain {
	spend := c.newChain("spend", "Each source may make a few first knocks a second.")
	budget := automaton.Attempts
	over := rate{n: uint64(budget.Rate), unit: expr.LimitTimeSecond, burst: uint32(budget.Burst), over: true}
	for _, f := range families {
		spend.add(
			carry(bucket(f, c.sourceBits(f), budget.Buckets)),
			refresh(c.live.budget, time.Minute, carried).limited(over), goTo(c.cover),
		)
	}
	return spend
}

// walk makes the chains of rules 3 and 4 of the automaton.
func (c *compiler) walk(a *inputKind, spend *chain) {
	a.known = c.newChain("known"+a.suffix, "The source has made a knock: it is in the state carried.")
	fresh := c.newChain("fresh"+a.suffix, "The source has no progress, or has just lost it.")
	a.unknown = fresh
	here := append([]field{carried}, a.lookup...)
	edges := func(ch *chain, from func(automaton.StateID) bool) {
		has := func(last bool) bool {
			return slices.ContainsFunc(c.m.Edges, func(e automaton.Edge) bool {
				return a.holds(e.On) && from(e.From) && (e.Door >= 0) == last
			})
		}
		if has(true) {
			ch.add(verdict(a.opens, here...))
		}
		if has(false) {
			ch.add(carryFrom(a.step, here...), goTo(c.move))
		}
	}

	if c.gate != nil {
		a.known.add(verdict(c.gate, carried))
	}
	if len(a.stay.elements) > 0 {
		a.known.add(in(a.stay, here...), goTo(c.cover))
	}
	shortest := c.shortestStay()
	forget := func(ch *chain) {
		doc := "Deleted more than once: an expired element may come first, and count as deleted."
		for _, f := range families {
			ch.say(doc, deleteReliably(remove(c.live.at[f], c.source(f)).with(carried), shortest))
			doc = ""
		}
	}
	later := func(id automaton.StateID) bool { return id != automaton.Root }
	if c.forfeit != nil {
		if len(a.spared.elements) > 0 {
			again := c.newChain("again"+a.suffix, "The source begins again, and keeps its grants.")
			forget(again)
			edges(again, later)
			a.known.add(in(a.spared, here...), goTo(again))
		}
		a.unknown = c.newChain("unknown"+a.suffix, "The source has no progress.")
		for _, f := range families {
			a.known.add(in(c.live.held[f], c.source(f)), jump(c.forfeit))
			a.unknown.add(in(c.live.held[f], c.source(f)), jump(c.forfeit))
		}
		a.unknown.add(goTo(fresh))
	}
	forget(a.known)
	edges(a.known, later)
	a.known.add(goTo(fresh))

	if len(a.first) == 0 {
		fresh.add(goTo(c.cover))
		return
	}
	begin := c.newChain("begin"+a.suffix, "A first knock.")
	if len(a.lookup) == 0 {
		fresh.add(goTo(begin))
	} else {
		onPorts(fresh, a.begins, goTo(begin))
		fresh.add(goTo(c.cover))
	}
	begin.add(jump(spend))
	begin.add(carryID(uint32(automaton.Root)))
	edges(begin, func(id automaton.StateID) bool { return id == automaton.Root })
}

// progress adds the rules that find the state of the source.
func (c *compiler) progress(ch *chain, a *inputKind) {
	for _, f := range families {
		ch.add(carryFrom(c.live.at[f], c.source(f)), goTo(a.known))
	}
	ch.add(goTo(a.unknown))
}
