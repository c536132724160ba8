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

	step  *set   // the knocks
	turns *set   // whatever else does not just forget the source's progress
	ends  bool   // whether root has an edge that opens a door
	stay  *chain // nil if there are no loops
	again *chain // nil if no input spares grants
	wrong *chain // what moves no source
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
	c.forget = c.newChain("forget", "The source's progress is forgotten.")
	c.forgetIn(c.forget, families...)
	c.doorChains()
	c.tables(ports, "protocol and port")
	c.tables(echo, "an echo request")
	c.unusedSet()
	c.gates()
	c.moving()

	c.judge = c.newChain("judge", "A packet that would open a new connection to this host.")
	c.asked = c.newChain("asked", "A packet to a port behind which something is hidden.")
	c.spend = c.newChain("spend", "Only so many packets of a source count. The rest changes nothing.")
	c.walks(ports, echo)

	c.syn.add(c.governed(), isSYN, toThisHost, goTo(c.judge))
	c.refuseLate()
	c.packet.add(isConfirmed, accept)
	c.packet.add(isEstablished, accept)
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
	a.turns = table("turns", "What is more than a knock on the way or a wrong port: last knocks, and what leaves a\n"+
		"source in its state.")
	a.turns.verdict = true

	for i := range c.m.Edges {
		e := &c.m.Edges[i]
		if !a.holds(e.On) {
			continue
		}
		at := elementOf(append([]part{idPart(uint32(e.From))}, a.parts(e.On)...)...)
		switch {
		case e.Door >= 0 && e.KeepsGrants:
			a.turns.elements = append(a.turns.elements, at.goingTo(c.doors[e.Door].opens))
		case e.Door >= 0:
			a.turns.elements = append(a.turns.elements, at.goingTo(c.doors[e.Door].enter))
		default:
			a.step.elements = append(a.step.elements, at.to(uint32(e.To)))
			if e.KeepsGrants {
				if a.again == nil {
					a.again = c.newChain("walk"+a.suffix+"_again", "The source begins again, soon after its last knock, and keeps its grants.")
				}
				a.turns.elements = append(a.turns.elements, at.goingTo(a.again))
			}
		}
		a.ends = a.ends || e.From == automaton.Root && e.Door >= 0
	}
	for i := range c.m.States {
		s := &c.m.States[i]
		for _, on := range s.Loops {
			if a.holds(on) {
				if a.stay == nil {
					a.stay = c.newChain("walk"+a.suffix+"_stay", "The source stays in its state: a repeated knock, or the service itself.")
				}
				at := elementOf(append([]part{idPart(uint32(s.ID))}, a.parts(on)...)...)
				a.turns.elements = append(a.turns.elements, at.goingTo(a.stay))
			}
		}
	}
	for _, s := range []*set{a.step, a.turns} {
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
			ch.add(c.put(f, timeout))
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

// spending fills the chain that takes one from the source's budget, and leads on. One chain asks
// for all: each rule hashes with a seed of its own, so two would be two budgets.
func (c *compiler) spending(ports, echo *inputKind) {
	budget := automaton.Attempts
	limit := rate{n: uint64(budget.Rate), unit: expr.LimitTimeSecond, burst: uint32(budget.Burst), over: true}
	for _, f := range families {
		bits := automaton.AttemptPrefix(c.p.Source, sample[f]).Bits()
		c.spend.add(
			carry(bucket(f, bits, budget.Buckets)),
			refresh(c.live.budget, time.Minute, carried).limited(limit), goTo(c.cover),
		)
		if echo.used() {
			c.spend.add(isEcho(f), goTo(c.walk(echo, f)))
		}
		c.spend.add(isFamily(f), goTo(c.walk(ports, f)))
	}
}

// walks makes the chains of rules 4 and 5 of the automaton, and leads there from the
// one that asks for the budget.
//
// Whoever waits for an answer can time it. So what a packet costs must not tell how
// far its source has come, nor whether its port is a knock: all take the same way,
// through lookups that find nothing and deletions of what is not there. Only a knock
// adds an element; other packets ask an unused set for as long as that takes. (To
// let each add one, to a table that nobody reads, told more: that table grows and
// shrinks with a scan, and the other one does not.) The last knock is no exception
// that matters: the door that it opens tells as much.
func (c *compiler) walks(ports, echo *inputKind) {
	ports.wrong = c.newChain("wrong", "It moves no source. It takes as long as if it did.")
	echo.wrong = c.cover
	c.spending(ports, echo)
	c.ask(ports.wrong, ports, asksWrong)
	ports.wrong.add(goTo(c.cover))
	for _, a := range []*inputKind{ports, echo} {
		if a.stay != nil {
			c.ask(a.stay, a, asksStay)
			a.stay.add(goTo(a.wrong))
		}
		if a.again != nil {
			a.again.add(jump(c.forget))
			a.again.add(carryFrom(a.step, a.here()...), goTo(c.move))
		}
	}
}

// used reports whether the automaton has any such input.
func (a *inputKind) used() bool {
	return len(a.step.elements)+len(a.turns.elements) > 0
}

// How often a packet asks the unused set where its way is shorter than that of
// another one: so that the medians of bench/timing agree. What this leaves is in
// docs/measurements.md.
const (
	asksStranger = 1 // no element of the source was found, and none deleted
	asksWrong    = 5 // no element was added
	asksNext     = 1 // another knock than the first does not ask for first knocks
	asksStay     = 5 // a loop: nothing was deleted, and no knock asked for
)

// ask adds lookups in the unused set.
func (c *compiler) ask(to *chain, a *inputKind, times int, when ...statement) {
	if len(a.lookup) == 0 {
		return // an echo request has no other to be told from
	}
	for range times {
		to.add(append(when, in(c.unused, a.here()...))...)
	}
}

// here is what a packet's way is looked up by: the state carried, and the input.
func (a *inputKind) here() []field { return append([]field{carried}, a.lookup...) }

// walk makes the chains of one family. (A family's rules cost packets of the other
// one as much as a tenth of a lookup each, and all of these are many.)
func (c *compiler) walk(a *inputKind, f family) *chain {
	ch := c.newChain("walk"+a.suffix+f.suffix(), "What the packet means to its source. Its time must not tell.")
	step := func(asks int, name string, before ...statement) {
		if len(a.step.elements) == 0 {
			return
		}
		onward := c.newChain(ch.name+"_"+name, "The source's "+name+" knock.")
		c.ask(onward, a, asks)
		if all := c.timeouts(); len(all) == 1 {
			onward.add(c.put(f, all[0]))
			onward.add(goTo(c.cover))
		} else {
			onward.add(goTo(c.move))
		}
		ch.add(append(before, carryFrom(a.step, a.here()...), goTo(onward))...)
	}

	ch.add(carryID(stranger), carryFrom(c.live.at[f], c.source(f)))
	c.ask(ch, a, asksStranger, is(carried, idText(stranger), idBytes(stranger)))
	if c.gate != nil {
		ch.add(verdict(c.gate, carried))
	}
	if len(a.turns.elements) > 0 {
		ch.add(verdict(a.turns, a.here()...))
	}
	c.stray(ch, f)
	c.forgetIn(ch, f)
	step(asksNext, "next")
	if a.ends {
		ch.add(carryID(uint32(automaton.Root)), verdict(a.turns, a.here()...))
	}
	step(0, "first", carryID(uint32(automaton.Root)))
	ch.add(goTo(a.wrong))
	return ch
}

// put moves the source to the state carried.
func (c *compiler) put(f family, timeout time.Duration) statement {
	return insert(c.live.at[f], timeout, c.source(f)).with(carried)
}

// forgetIn adds to a chain what deletes the state of the source.
func (c *compiler) forgetIn(ch *chain, of ...family) {
	doc := "Deleted more than once: an expired element may come first, and count as deleted."
	for _, f := range of {
		ch.say(doc, deleteReliably(remove(c.live.at[f], c.source(f)).with(carried), c.shortestStay()))
		doc = ""
	}
}
