//go:build linux

package nftables

import (
	"fmt"
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
	spared            *set // inputs in a state that lose no grant
	begins            bool // whether root has an edge for any
}

// stranger is what a packet carries whose source has made no knock. It is no state
// of a machine, and not Root either: over its budget, a source cannot begin.
const stranger = 0xffffffff

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
	c.unusedSet()
	c.gates()
	c.moving()
	c.wrongs()

	c.judge = c.newChain("judge", "A packet that would open a new connection to this host.")
	c.asked = c.newChain("asked", "A packet to a port behind which something is hidden.")
	c.spend = c.newChain("spend", "Each source may begin a few times a second. Every packet counts, so that a first knock\n"+
		"takes no longer than any other.")
	within := c.walks("walk", "The source is not over its budget.", true, ports, echo)
	over := c.walks("over", "The source is over its budget: it cannot begin, but go on.", false, ports, echo)
	c.spending(within, over)

	c.syn.add(c.governed(), isSYN, toThisHost, goTo(c.judge))
	c.refuseLate()
	c.packet.add(isConfirmed, accept)
	c.packet.add(isEstablished, accept)
	c.dropIPOptions()
	c.strays()
	c.dhcp(c.packet)
	c.packet.add(c.governed(), isProto(policy.UDP), toThisHost, goTo(c.judge))
	for _, f := range families {
		c.packet.add(c.governed(), isEcho(f), toThisHost, goTo(c.judge))
	}
	if c.allow != nil {
		c.judge.add(jump(c.allow))
	}
	onPorts(c.judge, c.hidden, goTo(c.asked))
	c.judge.add(goTo(c.spend))
	c.admitting()
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
		a.begins = a.begins || e.From == automaton.Root
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
}

// gates makes the chains that log a packet from a source that is knocking, and
// the table that leads to them.
func (c *compiler) gates() {
	if c.p.Log.Target == policy.LogNone || !c.p.Log.Progress {
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

// spending fills the chain that takes one from the source's budget. One chain asks
// for all: each rule hashes with a seed of its own, so two would be two budgets.
func (c *compiler) spending(within, over *chain) {
	budget := automaton.Attempts
	limit := rate{n: uint64(budget.Rate), unit: expr.LimitTimeSecond, burst: uint32(budget.Burst), over: true}
	for _, f := range families {
		bits := automaton.AttemptPrefix(c.p.Source, sample[f]).Bits()
		c.spend.add(
			carry(bucket(f, bits, budget.Buckets)),
			refresh(c.live.budget, time.Minute, carried).limited(limit), goTo(over),
		)
	}
	c.spend.add(goTo(within))
}

// walks makes the chains of rules 3 and 4 of the automaton, and returns the one that
// the others are reached from. Where a source may not begin, it has no rules for first
// knocks.
//
// Whoever waits for an answer can time it. So what a packet costs must not tell how
// far its source has come, nor whether its port is a knock: all take the same way,
// through lookups that find nothing and deletions of what is not there, and each
// leaves one element behind: a source's new state, or one that nobody reads. The
// last knock is no exception that matters: the door that it opens tells as much.
func (c *compiler) walks(name, doc string, begins bool, ports, echo *inputKind) *chain {
	first := c.walk(ports, name, doc, begins)
	if !echo.used() {
		return first
	}
	second := c.walk(echo, name, doc, begins)
	var toSecond []rule
	for _, f := range families {
		toSecond = append(toSecond, rule{statements: []statement{isEcho(f), goTo(second)}})
	}
	first.rules = append(toSecond, first.rules...)
	return first
}

// used reports whether the automaton has any such input.
func (a *inputKind) used() bool {
	return len(a.step.elements)+len(a.opens.elements)+len(a.stay.elements) > 0
}

// How often a packet asks the unused set where its way is shorter than that of
// another one. A lookup that finds something, and a deletion that deletes something,
// take longer than those that do not; and an element that holds a random number
// takes longer to add. What this leaves is in docs/measurements.md (bench/timing).
const (
	asksStranger = 1 // no element of the source was found, and none deleted
	asksFirst    = 2 // a first knock, where a wrong port adds a random element
	asksNext     = 4 // another knock, where a wrong port also asks for first knocks
	asksStay     = 2 // a loop, where a wrong port asks for all of these
)

func (c *compiler) walk(a *inputKind, name, doc string, begins bool) *chain {
	name += a.suffix
	begins = begins && a.begins
	ch := c.newChain(name, doc)
	part := func(suffix, doc string, rules func(*chain)) *chain {
		part := c.newChain(name+suffix, doc)
		rules(part)
		return part
	}
	here := append([]field{carried}, a.lookup...)
	ask := func(to *chain, times int, when ...statement) {
		for range times {
			if len(a.lookup) > 0 { // an echo request has no other to be told from
				to.add(append(when, in(c.unused, here...))...)
			}
		}
	}
	edges := func(to, onward *chain) {
		if len(a.opens.elements) > 0 {
			to.add(verdict(a.opens, here...))
		}
		if len(a.step.elements) > 0 {
			to.add(carryFrom(a.step, here...), goTo(onward))
		}
	}
	shortest := c.shortestStay()
	forget := func(to *chain) {
		doc := "Deleted more than once: an expired element may come first, and count as deleted."
		for _, f := range families {
			to.say(doc, deleteReliably(remove(c.live.at[f], c.source(f)).with(carried), shortest))
			doc = ""
		}
	}
	end, first, next := c.cover, c.move, c.move
	if begins {
		end = c.wrong
		if c.move != nil {
			first = part("_first", "The source's first knock.", func(ch *chain) {
				ask(ch, asksFirst)
				ch.add(goTo(c.move))
			})
			next = part("_next", "The source's next knock.", func(ch *chain) {
				ask(ch, asksNext)
				ch.add(goTo(c.move))
			})
		}
	}

	ch.add(carryID(stranger))
	for _, f := range families {
		ch.add(carryFrom(c.live.at[f], c.source(f)))
	}
	ask(ch, asksStranger, is(carried, idText(stranger), idBytes(stranger)))
	if c.gate != nil {
		ch.add(verdict(c.gate, carried))
	}
	if len(a.stay.elements) > 0 {
		ch.add(in(a.stay, here...), goTo(part("_stay", "The source stays in its state.", func(ch *chain) {
			for _, f := range families {
				ch.add(deleteReliably(remove(c.live.wrong[f], c.source(f), carried), shortest))
			}
			ask(ch, asksStay)
			ch.add(goTo(end))
		})))
	}
	if c.forfeit != nil {
		if len(a.spared.elements) > 0 {
			ch.add(in(a.spared, here...), goTo(part("_again", "The source begins again, and keeps its grants.", func(ch *chain) {
				forget(ch)
				edges(ch, c.move)
			})))
		}
		for _, f := range families {
			ch.add(in(c.live.held[f], c.source(f)), jump(c.forfeit))
		}
	}
	forget(ch)
	edges(ch, next)
	if begins {
		ch.add(carryID(uint32(automaton.Root)))
		edges(ch, first)
	}
	ch.add(goTo(end))
	return ch
}

// wrongs makes the chain of packets that move no source, although it may begin.
func (c *compiler) wrongs() {
	c.wrong = c.newChain("wrong", "It was no knock. It leaves as much behind as one does.")
	c.wrong.add(carry(random))
	for _, f := range families {
		c.wrong.add(insert(c.live.wrong[f], 10*time.Millisecond, c.source(f), carried))
	}
	c.wrong.add(goTo(c.cover))
}
