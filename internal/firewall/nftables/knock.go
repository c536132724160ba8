//go:build linux

package nftables

import (
	"fmt"
	"slices"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
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

	step *set // the edges, and the loops
	kept *set // the same, where they cost no grant
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
	c.forget = c.newChain("forget", "The source's progress is forgotten.")
	for _, f := range families {
		c.forget.add(c.unput(f))
	}
	c.doorChains()
	c.closings()
	if len(c.lastKnocks.elements) > 0 {
		c.newSet(c.lastKnocks)
	}
	c.tables(ports, "protocol and port")
	c.tables(echo, "an echo request")
	c.forfeiting(ports, echo)
	c.gates()
	c.moving()

	c.judge = c.newChain("judge", "A packet that would open a new connection to this host.")
	c.asked = c.newChain("asked", "A packet to a port behind which something is hidden.")
	c.spend = c.newChain("spend", "Only so many packets of a source count as knocks.")
	if c.m.Parameters.Early {
		c.counted = c.newChain("counted", "A packet that a program has counted before, within the budget of its source.")
		c.overBudget = c.newChain("counted_over", "The same, over that budget.")
	}
	if c.m.Parameters.Early && c.m.Silent() && c.m.NotedFor() > 0 {
		c.noting()
	}
	c.spending(ports, echo)

	c.countedEarly()
	c.syn.add(c.governed(), isSYN, toThisHost, goTo(c.judge))
	c.tokens()
	c.refuseLate()
	c.endings()
	c.cutting()
	c.packet.add(isConfirmed, accept)
	c.packet.add(isEstablished, accept)
	c.strays()
	c.dhcp(c.packet)
	if c.token != nil {
		c.packet.add(isTokened, goTo(c.token))
	}
	if c.early != nil {
		c.packet.add(isCoded, toThisHost, verdict(c.early, codeAlone))
	}
	c.packet.add(c.governed(), isProto(policy.UDP), toThisHost, goTo(c.judge))
	for _, f := range families {
		c.packet.add(c.governed(), isEcho(f), toThisHost, goTo(c.judge))
	}
	c.judging()
	c.admitting()
}

// judging fills the chain that packets come to first. One lookup says what the policy has
// at a port: most of a scan's packets find nothing, and more ports cost them nothing.
func (c *compiler) judging() {
	ports := c.newSet(&set{
		name: "ports", doc: "What is at a port: what is allowed to all, and what is hidden.",
		key: []datatype{nft.TypeInetProto, nft.TypeInetService}, verdict: true,
	})
	named := map[policy.Port]bool{}
	at := func(p policy.Port, to func(element) element) {
		if !named[p] {
			named[p] = true
			ports.elements = append(ports.elements, to(elementOf(portParts(p)...)))
		}
	}
	for i := range c.p.Allow {
		if p, alone := portAlone(&c.p.Allow[i]); alone {
			at(p, element.accepting)
		}
	}
	for i := range c.m.Services {
		at(c.m.Services[i].Port, func(e element) element { return e.goingTo(c.asked) })
	}
	if c.token != nil {
		at(policy.Port{Protocol: policy.TCP, Number: c.p.Keys.Port.Number}, func(e element) element { return e.goingTo(c.synToken) })
		at(policy.Port{Protocol: policy.UDP, Number: c.p.Keys.Port.Number}, func(e element) element { return e.goingTo(c.token) })
	}
	c.judge.add(verdict(ports, protocol, port))
	for _, ch := range []*chain{c.judge, c.asked} {
		if c.allowMore != nil {
			ch.add(jump(c.allowMore))
		}
	}
	c.judge.add(goTo(c.spend))
}

// tables makes the tables of a kind of input: its part of the automaton.
func (c *compiler) tables(a *inputKind, input string) {
	table := func(name, doc string) *set {
		return &set{name: name + a.suffix, doc: doc, key: append([]datatype{nft.TypeClassID}, a.key...)}
	}
	a.step = table("step", "The knocks: state, "+input+" -> next state, with the highest bit set, or a door, with the\n"+
		"second highest bit set, too. \"postern up\" adds some that mean nothing, so that the time of an\n"+
		"answer does not tell which is a knock.")
	a.step.data = &nft.TypeClassID
	a.kept = table("kept", "What costs no grant.")
	from := func(id automaton.StateID, on policy.Port) element {
		return elementOf(append([]part{idPart(uint32(id))}, a.parts(on)...)...)
	}

	for i := range c.m.Edges {
		e := &c.m.Edges[i]
		if !a.holds(e.On) {
			continue
		}
		to := uint32(e.To)
		switch {
		case e.Closes:
			to = c.closing(e.Door)
		case e.Door >= 0:
			to = c.opening(e.Door)
		}
		a.step.elements = append(a.step.elements, from(e.From, e.On).to(to|moved))
		if e.KeepsGrants {
			a.kept.elements = append(a.kept.elements, from(e.From, e.On))
		}
	}
	for i := range c.m.States {
		s := &c.m.States[i]
		for _, on := range s.Loops {
			if a.holds(on) {
				a.step.elements = append(a.step.elements, from(s.ID, on).to(uint32(s.ID)|moved))
				a.kept.elements = append(a.kept.elements, from(s.ID, on))
			}
		}
	}
	if c.live.held == nil {
		a.kept.elements = nil
	}
	for _, s := range []*set{a.step, a.kept} {
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

// nobodyStays returns how long a wrong port keeps its source's element: as long as
// the shortest step, so that most policies need one rule for all packets, but no
// longer than there is room for all that the budget lets through.
func (c *compiler) nobodyStays() time.Duration {
	room := MaxProgress / (automaton.Attempts.Rate * automaton.Attempts.Buckets) // seconds
	return min(c.shortestStay(), time.Duration(room)*time.Second)
}

// stays returns the different times that an element of a source may live for. There
// are none where every door has one knock.
func (c *compiler) stays() []time.Duration {
	all := c.timeouts()
	if len(all) == 0 {
		return nil
	}
	all = append(all, c.nobodyStays())
	slices.Sort(all)
	return slices.Compact(all)
}

// moving makes the chains that put a source into the state carried, where these
// times differ.
func (c *compiler) moving() {
	stays := c.stays()
	if len(stays) < 2 {
		return
	}
	c.move = c.newChain("move", "The source moves to the state carried.")
	pace := c.newSet(&set{
		name: "pace", doc: "The step timeout of each state.", key: []datatype{nft.TypeClassID}, verdict: true,
	})
	chains := map[time.Duration]*chain{}
	for _, t := range stays {
		chains[t] = c.newChain(moveName(t), "")
		for _, f := range families {
			chains[t].add(c.put(f, t))
		}
		chains[t].add(goTo(c.cover))
	}
	for i := range c.m.States {
		s := &c.m.States[i]
		pace.elements = append(pace.elements, elementOf(idPart(uint32(s.ID))).goingTo(chains[s.Timeout]))
	}
	pace.elements = append(pace.elements, elementOf(idPart(nobody)).goingTo(chains[c.nobodyStays()]))
	c.move.add(verdict(pace, carried))
}

// moveName is the name of the chain that puts a source into a state for so long.
func moveName(stays time.Duration) string { return "move_" + durationText(stays) }

// spending fills the chain that takes one from the source's budget, and leads on. One
// chain asks for all: each rule hashes with a seed of its own, so two would be two
// budgets.
func (c *compiler) spending(ports, echo *inputKind) {
	budget := automaton.Attempts
	limit := rate{n: uint64(budget.Rate), unit: expr.LimitTimeSecond, burst: uint32(budget.Burst), over: true}
	if c.counted != nil && c.p.HasKeys() {
		c.counted.say("What comes to the port of tokens is no knock.", isPort(dport(policy.UDP), c.p.Keys.Port.Number), goTo(c.cover))
	}
	for _, f := range families {
		over := c.newChain("spent"+f.suffix(), "The source is over its budget. Whatever the port is, it is a wrong one.")
		over.add(c.unput(f))
		over.add(goTo(c.cover))
		bits := automaton.AttemptPrefix(c.p.Source, sample[f]).Bits()
		c.spend.add(
			carry(bucket(f, bits, budget.Buckets)),
			refresh(c.live.budget, time.Minute, carried).limited(limit), goTo(over),
		)
		if len(echo.step.elements) > 0 {
			c.spend.add(isEcho(f), goTo(c.walk(echo, f)))
		}
		walk := goTo(c.walk(ports, f))
		c.spend.add(isFamily(f), walk)
		if c.counted != nil {
			c.counted.add(isFamily(f), carryID(1), walk) // a bucket, as walk says; which one does not matter
			c.overBudget.add(isFamily(f), goTo(over))
		}
		if c.countedNoted != nil {
			c.countedNoted.add(isFamily(f), carryFrom(c.noted, notedPort), c.unput(f), walk)
		}
	}
	if c.countedNoted != nil {
		c.countedNoted.add(goTo(c.counted)) // it is a first knock no more
	}
}

// countedEarly leads on the SYNs that the program of package bpf has counted. It has made sure
// that they came by interfaces that the policy is about, to ports of this host that are named
// nowhere in it. Others' rules may have sent them elsewhere since. What it has not seen, or has
// not counted, is judged as if there were no program. Datagrams follow behind connection
// tracking, which may know more of them than it has told the program.
func (c *compiler) countedEarly() {
	if c.counted == nil {
		return
	}
	c.early = c.newSet(&set{
		name: "counted", doc: "What was counted before, by codes that are random: within the budget of its source, or\n" +
			"over it. \"postern up\" fills it, and loads what counts.",
		key: []datatype{nft.TypeClassID}, verdict: true,
	})
	if c.told != nil {
		c.syn.add(isCoded, toThisHost, verdict(c.told, codeAlone))
	}
	c.syn.add(isCoded, isProto(policy.TCP), toThisHost, verdict(c.early, codeAlone))
}

var (
	codeAlone = carriedBits(bpf.CodeBits)
	notedPort = carriedBits(^uint32(bpf.CodeBits))
)

// noting makes what takes over the notes of the program: see early.h of package bpf. A packet
// that the program has counted is judged in the state that was noted. Before all else is judged
// its source gets an element, which lasts a part of the time longer at most. An element that the
// source has is older than the note.
func (c *compiler) noting() {
	c.noted = c.newSet(&set{
		name: "noted", doc: "What a first knock means that the program has noted, and not let on: port -> state.",
		key: []datatype{nft.TypeClassID}, data: &nft.TypeClassID,
	})
	for i := range c.m.Edges {
		if e := &c.m.Edges[i]; e.From == automaton.Root && e.On.Protocol == policy.TCP {
			c.noted.elements = append(c.noted.elements, notedElement(e.On, e.To))
		}
	}
	c.countedNoted = c.newChain("counted_noted", "The same, of a source whose first knock the program has noted.")
	c.told = c.newSet(&set{
		name: "told", doc: "What was not counted, of such a source, by how many eighths of its time are left. \"postern up\"\n" +
			"fills it, too.",
		key: []datatype{nft.TypeClassID}, verdict: true,
	})
	doc := "The source gets the state that was noted, and the packet goes on."
	for left := range bpf.NoteParts {
		ch := c.newChain(toldName(left+1), doc)
		for _, f := range families {
			ch.add(isFamily(f), carryFrom(c.noted, notedPort), c.unput(f), insert(c.live.at[f], c.m.NotedFor()*time.Duration(left+1)/bpf.NoteParts, c.source(f)).with(carried))
		}
		ch.add(carryID(0))
		doc = ""
	}
}

// toldName is the name of the chain for what has so many parts of its time left.
func toldName(left int) string { return fmt.Sprintf("told_%d", left) }

// notedElement is what a port leads to in the map of notes.
func notedElement(on policy.Port, to automaton.StateID) element {
	return elementOf(idPart(uint32(on.Number))).to(uint32(to))
}

// What a packet may carry beside the states of the machine.
const (
	moved  = 1 << 31           // is added to what a knock leads to
	door   = 1 << 30           // is added to that if it is a door
	shuts  = 1 << 29           // is added to that if the knock closes it
	nobody = automaton.Largest // the state of a source whose last packet was no knock
)

var (
	isUnmoved = compare(carriedBits(moved), "== ", expr.CmpOpEq, idText(0), idBytes(0))
	isDoor    = compare(carriedBits(door), "!= ", expr.CmpOpNeq, idText(0), idBytes(0))
	settled   = carriedBits(automaton.Largest) // the state carried, without the bits
)

// walk makes the chain of rules 4 and 5 of the automaton, for packets of one family.
//
// Anyone who waits for an answer can time it. So what a packet costs must not tell how
// far its source has come, nor whether its port is a knock. All take the same rules,
// through lookups that find nothing and deletions of what is not there, and each
// replaces its source's element: by the next state, or by that of nobody. Only a last
// knock takes another way; it tells no more than the door that it opens.
func (c *compiler) walk(a *inputKind, f family) *chain {
	ch := c.newChain("walk"+a.suffix+f.suffix(), "What the packet means to its source. All packets take the same rules, so that the time\n"+
		"of an answer tells nothing.")
	ch.say("The packet of a source without a state goes on carrying a bucket, which is no state.", carryFrom(c.live.at[f], c.source(f)))
	if c.gate != nil {
		ch.add(verdict(c.gate, carried))
	}
	if c.forfeit != nil {
		ch.add(in(c.live.held[f], c.source(f)), jump(c.forfeit))
	}
	if len(a.step.elements) > 0 {
		ch.add(carryFrom(a.step, a.after(carried)...))
		ch.say("If that was no knock, it may be a first one.", carryFrom(a.step, a.after(carriedBits(moved))...))
	}
	ch.say("Nor is it.", isUnmoved, carryID(nobody))
	if len(c.lastKnocks.elements) > 0 {
		ch.add(isDoor, verdict(c.lastKnocks, carried))
	}
	ch.add(carry(settled))
	switch all := c.stays(); len(all) {
	case 0:
		ch.add(c.unput(f))
		ch.add(goTo(c.cover))
	case 1:
		ch.add(c.unput(f), c.put(f, all[0]))
		ch.add(goTo(c.cover))
	default:
		ch.add(c.unput(f))
		ch.add(goTo(c.move))
	}
	return ch
}

// after is what an input's meaning is looked up by, after the state in a field.
func (a *inputKind) after(state field) []field { return append([]field{state}, a.lookup...) }

// put moves the source to the state carried.
func (c *compiler) put(f family, timeout time.Duration) statement {
	return insert(c.live.at[f], timeout, c.source(f)).with(carried)
}

// unput deletes the state of the source. Once is enough (see deleteReliably): no packet
// puts an element there without such a deletion before it, so that a source has one at
// most, which may have expired.
func (c *compiler) unput(f family) statement {
	return remove(c.live.at[f], c.source(f)).with(carried)
}
