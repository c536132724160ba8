package conformance

import (
	"fmt"
	"net/netip"
	"time"

	"postern/internal/automaton"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A shot is one packet that a scenario sends.
type shot struct {
	src, dst netip.Addr
	link     int // over which of the cables
	port     policy.Port
	sport    uint16 // the source port; the identifier of an echo request
	seq      uint32
	flags    packet.TCPFlags
}

// opens tells whether the packet would open a connection: of TCP, a pure SYN does.
func (s shot) opens() bool {
	return s.port.Protocol != policy.TCP || s.flags&(packet.FIN|packet.SYN|packet.RST|packet.ACK) == packet.SYN
}

func (s shot) String() string {
	text := fmt.Sprintf("%s:%d > %s %s", s.src, s.sport, s.dst, s.port)
	if s.port.Protocol == policy.TCP {
		text += fmt.Sprintf(" seq %d", s.seq)
		if s.flags != packet.SYN {
			text += " " + s.flags.String()
		}
	}
	if s.link != 0 {
		text += " on " + links[s.link]
	}
	return text
}

// A span is a time, as well as it is known: something happened between its ends,
// when the clock that the kernel counts timeouts by was late by so much.
type span struct {
	from, to, late time.Duration
}

// noise is how far from the beginning of the span the kernel may have seen it
// happen.
func (s span) noise() time.Duration { return s.to - s.from + s.late }

// guard is how far from its deadline the kernel may forget something: timeouts
// are kept in ticks of a timer, which may be 10 ms long, and rounded.
const guard = 15 * time.Millisecond

// A kind says how a packet is judged.
type kind string

const (
	input      kind = "input"      // by the automaton
	allowed    kind = "allowed"    // by an allow entry
	known      kind = "known flow" // as part of a flow that is known
	ungoverned kind = "ungoverned" // not at all, on a cable that the policy is not about
	stray      kind = "no input"   // as a packet that opens no connection
)

// An outcome is what must become of a packet.
type outcome struct {
	kind    kind
	verdict automaton.Verdict // of an input
	pass    bool
	tcp     bool
	bare    bool // it opens no connection
	unsure  bool // it came too near to a deadline to tell

	// What the packet met with, to count.
	expired  bool // its source had come part-way, too long ago
	late     bool // its source had held the grant, too long ago
	refused  bool // its source has made too many first knocks
	forfeits bool // it cost its source a grant
	spared   bool // it would have, but for being a first knock soon after the last
}

// A model is the reference, and what is around it in a kernel: the packets that
// are no inputs.
type model struct {
	machine *automaton.Machine
	ref     *automaton.Reference
	first   map[policy.Port]bool // the first knocks
	flows   map[flow]acquaintance
	purses  map[netip.Addr]*purse
	noise   time.Duration // the most of any packet so far
}

// An acquaintance is how well a flow is known.
type acquaintance struct {
	last time.Duration // when its last packet came
	in   bool          // it passes, wherever it comes from
}

// flow is what connection tracking knows a flow by.
type flow struct {
	src, dst netip.Addr
	port     policy.Port
	sport    uint16
}

func newModel(m *automaton.Machine) *model {
	o := &model{
		machine: m,
		ref:     automaton.NewReference(m),
		first:   map[policy.Port]bool{},
		flows:   map[flow]acquaintance{},
		purses:  map[netip.Addr]*purse{},
	}
	for _, e := range m.Edges {
		if e.From == automaton.Root {
			o.first[e.On] = true
		}
	}
	return o
}

// step judges the next packet.
func (o *model) step(at span, s shot) outcome {
	o.noise = max(o.noise, at.noise())
	p := o.machine.Policy
	hidden := o.machine.ServiceAt(s.dst, s.port) != nil
	f := flow{s.src, s.dst, s.port, s.sport}
	met, isKnown := o.flows[f]
	shown := p.Posture == policy.Guard && !hidden
	governed := len(p.Interfaces) == 0 || links[s.link] == p.Interfaces[0]
	var v outcome
	switch {
	case isKnown:
		pass := met.in || !governed || o.allows(s) || shown
		v = outcome{kind: known, pass: pass, unsure: at.to-met.last > flowLife}
	case !governed:
		v = outcome{kind: ungoverned, pass: true}
	case o.allows(s):
		v = outcome{kind: allowed, pass: true}
	case !s.opens() && o.machine.Parameters.Inputs == automaton.NewConnections:
		v = outcome{kind: stray, pass: shown}
	default:
		v = o.input(at, s)
		v.pass = v.verdict.Admitted || shown
	}
	v.tcp, v.bare = s.port.Protocol == policy.TCP, !s.opens()
	if isKnown || v.pass && o.founds(s) {
		// Ahead of tracking it takes more than a packet that nobody has answered: a flow
		// that began where the policy does not hold is a stranger where it does.
		in := o.machine.Parameters.Known != automaton.SameSYN || s.port.Protocol == policy.ICMP || v.verdict.Admitted
		o.flows[f] = acquaintance{at.from, met.in || in}
	}
	return v
}

// flowLife is how long connection tracking knows a flow at the least, after its
// last packet: 10 s once a listener has refused something of it, 30 s and more
// otherwise. A scenario goes on for less, if the machine is not too busy.
const flowLife = 10*time.Second - guard

// founds tells whether the flow of a packet that passes is known from then on, on
// every cable. The suite's listeners answer each SYN, and the kernel each echo
// request; nobody answers a UDP datagram. A TCP packet that opens no connection
// is refused with a RST, upon which connection tracking forgets it.
func (o *model) founds(s shot) bool {
	tracks := o.machine.Parameters.Known
	switch s.port.Protocol {
	case policy.TCP:
		return tracks != automaton.SameSYN && s.opens()
	case policy.UDP:
		return tracks != automaton.Answered
	default:
		return true
	}
}

// allows tells whether an allow entry takes the packet.
func (o *model) allows(s shot) bool {
	for _, a := range o.machine.Policy.Allow {
		to := a.Service == policy.Service{} ||
			a.Service.Protocol == s.port.Protocol && a.Service.First <= s.port.Number && s.port.Number <= a.Service.Last
		if to && (!a.From.IsValid() || a.From.Contains(s.src)) && (a.Interface == "" || a.Interface == links[s.link]) {
			return true
		}
	}
	return false
}

// input has the reference judge, and finds out whether a kernel could tell.
func (o *model) input(at span, s shot) outcome {
	v := outcome{kind: input, unsure: o.nearDeadline(at.from, s.src, guard+2*o.noise)}
	all := o.ref.SourceState(s.src)
	before := all.At(at.from)
	v.expired = all.State != before.State
	v.verdict = o.ref.Step(at.from, automaton.Input{
		Source: s.src, Dest: s.dst, Port: s.port, SourcePort: s.sport, Sequence: sequenceOf(s),
	})
	after := o.ref.SourceState(s.src)
	for id := range before.Grants {
		if _, kept := after.Grants[id]; !kept && !v.verdict.Admitted {
			v.forfeits = true
		}
	}
	if state := o.machine.State(v.verdict.From); state != nil && state.Opened && v.verdict.Rule == 3 {
		v.spared = v.verdict.From != v.verdict.To && len(before.Grants) > 0
	}
	if service := o.machine.ServiceAt(s.dst, s.port); service != nil && !v.verdict.Admitted {
		_, had := all.Grants[service.ID]
		_, has := before.Grants[service.ID]
		v.late = had && !has
	}
	if budget := o.machine.Parameters.FirstKnocks; budget != (automaton.Budget{}) && v.verdict.Rule == 4 && o.first[s.port] {
		source := o.machine.Policy.Source.Mask(s.src)
		if o.purses[source] == nil {
			o.purses[source] = newPurse(budget, at)
		}
		spent := v.verdict.Door != nil || v.verdict.To != automaton.Root
		v.refused = !spent
		v.unsure = o.purses[source].spend(at, spent) || v.unsure
	}
	return v
}

func sequenceOf(s shot) uint32 {
	if s.port.Protocol == policy.TCP {
		return s.seq
	}
	return 0
}

// near tells whether a moment is so near to when the source loses something, or
// may knock again, that it cannot be said on which side of it.
func (o *model) near(at time.Duration, src netip.Addr, band time.Duration) bool {
	p := o.purses[o.machine.Policy.Source.Mask(src)]
	return p != nil && p.near(at) || o.nearDeadline(at, src, band)
}

func (o *model) nearDeadline(at time.Duration, src netip.Addr, band time.Duration) bool {
	h := o.ref.SourceState(src)
	close := func(until time.Duration) bool { return (at - until).Abs() < band }
	if h.State != automaton.Root && close(h.Until) {
		return true
	}
	for _, until := range h.Grants {
		if close(until) {
			return true
		}
	}
	return false
}

// deadlines gives when what the source has runs out.
func (o *model) deadlines(at time.Duration, src netip.Addr) []time.Duration {
	h := o.ref.SourceState(src).At(at)
	var all []time.Duration
	if h.State != automaton.Root {
		all = append(all, h.Until)
	}
	for i := range o.machine.Services { // in a fixed order, for the same seed to draw the same
		if until, ok := h.Grants[o.machine.Services[i].ID]; ok {
			all = append(all, until)
		}
	}
	if p := o.purses[o.machine.Policy.Source.Mask(src)]; p != nil && p.low < p.cost {
		all = append(all, p.last.from+p.cost-p.low)
	}
	return all
}

// A purse is a source's budget of first knocks as well as it is known: it holds
// between low and high. The reference counts exact times; the kernel had others.
type purse struct {
	cost, size time.Duration // of one knock, and when it is full
	low, high  time.Duration
	last       span
}

func newPurse(budget automaton.Budget, at span) *purse {
	p := &purse{cost: time.Second / time.Duration(budget.Rate), last: at}
	p.size = p.cost * time.Duration(budget.Burst)
	p.low, p.high = p.size, p.size
	return p
}

// near tells whether it cannot be said if there is a first knock in the purse.
func (p *purse) near(at time.Duration) bool {
	return p.low+max(0, at-p.last.to) < p.cost && p.high+at-p.last.from+tick >= p.cost
}

// spend takes one first knock, if the reference did, and tells whether the
// kernel may have judged otherwise.
func (p *purse) spend(at span, spent bool) (unsure bool) {
	p.low = min(p.size, p.low+max(0, at.from-p.last.to))
	p.high = min(p.size, p.high+at.to-p.last.from)
	p.last = at
	unsure = p.low < p.cost && p.cost <= p.high
	if spent {
		p.low, p.high = p.low-p.cost, p.high-p.cost
	}
	return unsure
}
