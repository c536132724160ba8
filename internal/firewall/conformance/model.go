package conformance

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A probe is one packet of a scenario.
type probe struct {
	src, dst netip.Addr
	link     int // the index of the cable
	port     policy.Port
	sport    uint16 // the source port; the identifier of an echo request
	seq      uint32
	flags    packet.TCPFlags

	token        tokenKind // "": none
	device, door string    // whose it is, and for what
	closes       bool      // it closes the door
}

// opensConnection reports whether the packet would open a connection; a TCP
// packet does if it is a pure SYN.
func (s probe) opensConnection() bool {
	return s.port.Protocol != policy.TCP || s.flags&(packet.FIN|packet.SYN|packet.RST|packet.ACK) == packet.SYN
}

func (s probe) String() string {
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
	return text + s.tokenText()
}

// A span is a time with its uncertainty: something happened between from and
// to, and the clock that the kernel uses for timeouts was late by up to late.
type span struct {
	from, to, late time.Duration
}

// noise returns how far from the beginning of the span the kernel may have seen
// it happen.
func (s span) noise() time.Duration { return s.to - s.from + s.late }

// guard is how far from its deadline the kernel may drop an entry: timeouts are
// counted in timer ticks of up to 10 ms, and rounded.
const guard = 15 * time.Millisecond

// A kind says what judges a packet.
type kind string

const (
	input      kind = "input"      // the automaton
	allowed    kind = "allowed"    // an allow entry
	known      kind = "known flow" // its known flow
	ungoverned kind = "ungoverned" // nothing: the policy does not cover the cable
	stray      kind = "no input"   // nothing: it opens no connection
	keyed      kind = "of keys"    // nothing: it had a token, or is for the port of tokens
)

// An outcome is what must happen to a packet.
type outcome struct {
	kind    kind
	verdict automaton.Verdict // of an input
	pass    bool
	mark    markWanted // if it passes
	tcp     bool
	bare    bool // it does not open a connection
	unsure  bool // it came too close to a deadline to tell
	token   bool // its token was right, and was judged

	// The events that are counted.
	expired  bool // its source had made progress, which has expired
	late     bool // its source had held the grant, which has expired
	ended    bool // its source had got the grant at a door that has changed since
	closed   bool // it has taken a grant by closing its door
	again    bool // its flow was let in before, and its source has closed the door since
	refused  bool // it would have changed something, and its source's budget was spent
	forgot   bool // the same, and its source has lost its progress
	forfeits bool // it cost its source a grant
	spared   bool // it was a first knock right after the last one, which costs no grant
}

// A model is the reference plus what a kernel does around it with packets that
// are not inputs.
type model struct {
	machine *automaton.Machine
	ref     *automaton.Reference
	first   map[policy.Port]bool // the first knocks
	flows   map[flow]knownFlow
	marked  map[flow]bool // whether a packet with the same addresses and ports was admitted
	budgets map[budgetKey]*budgetBounds
	noise   time.Duration // the largest noise of any packet so far

	sources map[netip.Addr]bool        // that have sent an input
	former  *automaton.Machine         // that the machine has replaced, or nil
	ended   map[endedKey]time.Duration // grants whose door has changed since, and until when they would have lasted
}

// endedKey is a source and the service that it had a grant for.
type endedKey struct {
	source  netip.Addr
	service string
}

// A knownFlow is a flow that connection tracking knows.
type knownFlow struct {
	admitted time.Duration // when a grant let one of its packets in last; negative: none did
	last     time.Duration // the time of its last packet
	in       bool          // its packets pass on every cable
}

// flow is the key of a flow in connection tracking.
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
		flows:   map[flow]knownFlow{},
		marked:  map[flow]bool{},
		budgets: map[budgetKey]*budgetBounds{},
		sources: map[netip.Addr]bool{},
		ended:   map[endedKey]time.Duration{},
	}
	o.findFirst()
	return o
}

// findFirst finds the first knocks.
func (o *model) findFirst() {
	clear(o.first)
	for _, e := range o.machine.Edges {
		if e.From == automaton.Root {
			o.first[e.On] = true
		}
	}
}

// replace makes another machine judge from now on, and reports whether it was
// another one.
func (o *model) replace(m *automaton.Machine) bool {
	if m == o.machine {
		return false
	}
	for source := range o.sources {
		for id, until := range o.ref.SourceState(source).Grants {
			if m.Grant(id) == nil {
				service := &o.machine.Services[o.machine.Grant(id).Service]
				key := endedKey{o.machine.Policy.Source.Mask(source), service.String()}
				o.ended[key] = max(o.ended[key], until)
			}
		}
	}
	o.former, o.machine = o.machine, m
	o.ref.Replace(m)
	o.findFirst()
	return true
}

// step judges the next packet.
func (o *model) step(at span, s probe) outcome {
	o.noise = max(o.noise, at.noise())
	p := o.machine.Policy
	f := flow{s.src, s.dst, s.port, s.sport}
	service := o.machine.ServiceAt(s.dst, s.port)
	shown := p.Posture == policy.Guard && service == nil
	governed := len(p.Interfaces) == 0 || links[s.link] == p.Interfaces[0]
	met, isKnown := o.flows[f]
	if !isKnown {
		met.admitted = -1
	}
	again := isKnown && governed && service != nil && s.opensConnection() && !o.allows(s) && o.ref.Ended(s.src, service, met.admitted)
	var v, judged outcome
	if t := o.verified(s); t != nil && governed {
		judged = o.judge(at, s, t)
	}
	switch {
	case isKnown && !again:
		pass := met.in || !governed || o.allows(s) || shown
		v = outcome{kind: known, pass: pass, unsure: at.to-met.last > flowLife}
	case !governed:
		v = outcome{kind: ungoverned, pass: true}
	case o.allows(s):
		v = outcome{kind: allowed, pass: true}
	case !s.opensConnection() && o.machine.Parameters.Inputs == automaton.NewConnections:
		v = outcome{kind: stray, pass: shown}
	case judged.token || p.IsKeyPort(s.port) && !o.machine.Early(s.port):
		v = outcome{kind: keyed, pass: shown}
	case p.IsKeyPort(s.port): // no input, but it takes an attempt
		v = o.input(at, s)
		v.kind = keyed
	default:
		v = o.input(at, s)
		v.pass = v.verdict.Admitted || shown
	}
	if judged.token {
		v.token, v.verdict, v.unsure = true, judged.verdict, v.unsure || judged.unsure
	}
	v.mark = o.mark(f, v)
	v.tcp, v.bare = s.port.Protocol == policy.TCP, !s.opensConnection()
	v.again = again
	if v.verdict.Admitted {
		met.admitted = at.from
	}
	if isKnown || v.pass && o.startsFlow(s) {
		// Before connection tracking, a packet that was not answered is not
		// enough: a flow that began outside the policy is unknown inside it.
		in := o.machine.Parameters.Known != automaton.SameSYN || s.port.Protocol == policy.ICMP || v.verdict.Admitted
		o.flows[f] = knownFlow{met.admitted, at.from, met.in || in}
	}
	return v
}

// flowLife is how long connection tracking keeps a flow after its last packet,
// at the least: 10 s once a listener has refused a packet of it, 30 s and more
// otherwise. A scenario is shorter, if the machine is not too busy.
const flowLife = 10*time.Second - guard

// startsFlow reports whether the flow of a passing packet is known from then
// on, on every cable. The suite's listeners answer each SYN, and the kernel
// each echo request; UDP datagrams are not answered. A TCP packet that opens no
// connection is refused with a RST, upon which connection tracking drops the
// flow.
func (o *model) startsFlow(s probe) bool {
	tracks := o.machine.Parameters.Known
	switch s.port.Protocol {
	case policy.TCP:
		return tracks != automaton.SameSYN && s.opensConnection()
	case policy.UDP:
		return tracks != automaton.Answered
	default:
		return true
	}
}

// allows reports whether an allow entry matches the packet.
func (o *model) allows(s probe) bool {
	for _, a := range o.machine.Policy.Allow {
		to := a.Service == policy.Service{} ||
			a.Service.Protocol == s.port.Protocol && a.Service.First <= s.port.Number && s.port.Number <= a.Service.Last
		if to && (!a.From.IsValid() || a.From.Contains(s.src)) && (a.Interface == "" || a.Interface == links[s.link]) {
			return true
		}
	}
	return false
}

// input lets the reference judge, and finds out whether a kernel could differ.
func (o *model) input(at span, s probe) outcome {
	v := outcome{kind: input, unsure: o.nearDeadline(at.from, s.src, guard+2*o.noise)}
	o.sources[s.src] = true
	all := o.ref.SourceState(s.src)
	before := all.At(at.from)
	v.expired = all.State != before.State
	v.verdict = o.ref.Step(at.from, automaton.Input{
		Source: s.src, Dest: s.dst, Port: s.port, SourcePort: s.sport, Sequence: sequenceOf(s),
	})
	after := o.ref.SourceState(s.src)
	for id := range before.Grants {
		_, kept := after.Grants[id]
		lost := !kept && !v.verdict.Admitted
		closed := lost && v.verdict.Closed && &o.machine.Doors[o.machine.Grant(id).Door] == v.verdict.Door
		v.closed = v.closed || closed
		v.forfeits = v.forfeits || lost && !closed
	}
	if state := o.machine.State(v.verdict.From); state != nil && state.Opened && v.verdict.Rule == 4 {
		v.spared = v.verdict.From != v.verdict.To && len(before.Grants) > 0
	}
	if service := o.machine.ServiceAt(s.dst, s.port); service != nil && !v.verdict.Admitted {
		for _, i := range service.Grants {
			_, had := all.Grants[o.machine.Grants[i].ID]
			_, has := before.Grants[o.machine.Grants[i].ID]
			v.late = v.late || had && !has
		}
		v.ended = at.from < o.ended[endedKey{o.machine.Policy.Source.Mask(s.src), service.String()}]
	}
	if o.machine.Parameters.Attempts != (automaton.Budget{}) && !v.verdict.Admitted {
		o.spend(at, s, before, &v)
	}
	return v
}

// spend takes an input from the budget of its source, if it counts.
func (o *model) spend(at span, s probe, before automaton.SourceState, v *outcome) {
	key := budgetKey{o.owner(s.src), o.machine.Early(s.port)}
	b := o.budgets[key]
	if b == nil {
		b = newBudgetBounds(o.machine.Parameters.Attempts, at)
		o.budgets[key] = b
	}
	d := &v.verdict
	if o.machine.Parameters.Counted == automaton.EveryInput {
		matters := o.matters(s, before)
		v.refused = matters && d.Rule == 3
		v.forgot = v.refused && d.From != automaton.Root
		v.unsure = v.unsure || matters && b.unsure(at)
		b.take(at)
	} else if d.Rule == 5 && o.first[s.port] {
		v.refused = d.Door == nil && d.To == automaton.Root
		v.unsure = v.unsure || b.unsure(at)
		b.take(at)
	}
}

// matters reports whether an input that is not admitted changes anything, if it
// counts.
func (o *model) matters(s probe, before automaton.SourceState) bool {
	return o.machine.State(before.State) != nil || o.first[s.port] || len(before.Grants) > 0
}

// budgetKey is what has a budget of attempts.
type budgetKey struct {
	owner netip.Prefix
	early bool
}

// owner returns the addresses that share budgets of attempts with one.
func (o *model) owner(src netip.Addr) netip.Prefix {
	return automaton.AttemptPrefix(o.machine.Policy.Source, src)
}

// budgetsOf returns the budgets of a source that it has taken from.
func (o *model) budgetsOf(src netip.Addr) []*budgetBounds {
	var all []*budgetBounds
	for _, early := range []bool{false, true} {
		if b := o.budgets[budgetKey{o.owner(src), early}]; b != nil {
			all = append(all, b)
		}
	}
	return all
}

func sequenceOf(s probe) uint32 {
	if s.port.Protocol == policy.TCP {
		return s.seq
	}
	return 0
}

// near reports whether a time is too close to the expiry of something the
// source has, or to when it may knock again.
func (o *model) near(at time.Duration, src netip.Addr, band time.Duration) bool {
	return slices.ContainsFunc(o.budgetsOf(src), func(b *budgetBounds) bool { return b.near(at) }) || o.nearDeadline(at, src, band)
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

// deadlines returns the times at which what the source has expires.
func (o *model) deadlines(at time.Duration, src netip.Addr) []time.Duration {
	h := o.ref.SourceState(src).At(at)
	var all []time.Duration
	if h.State != automaton.Root {
		all = append(all, h.Until)
	}
	for i := range o.machine.Grants { // in a fixed order, so that a seed always draws the same
		if until, ok := h.Grants[o.machine.Grants[i].ID]; ok {
			all = append(all, until)
		}
	}
	for _, b := range o.budgetsOf(src) {
		if b.low < b.cost {
			all = append(all, b.last.to+b.cost-b.low)
		}
	}
	return all
}

// budgetBounds are the bounds of what is left of a budget of attempts. The
// reference uses exact times; the kernel saw others, within the spans. What is left
// grows with the time, up to size.
type budgetBounds struct {
	cost, size time.Duration // of one attempt, and of a full budget
	last       span          // of the last input
	low        time.Duration // the least left after it
	early      time.Duration // the same, less what it grew by from last.from on
	high       time.Duration // the most left at last.to, as if it could grow over size
}

func newBudgetBounds(budget automaton.Budget, at span) *budgetBounds {
	b := &budgetBounds{cost: time.Second / time.Duration(budget.Rate), last: at}
	b.size = b.cost * time.Duration(budget.Burst)
	b.low, b.early, b.high = b.size, b.size, b.size+at.to-at.from
	return b
}

// left returns how much may be left at some moment of a span, after the last.
func (b *budgetBounds) left(at span) (least, most time.Duration) {
	least = max(b.low+max(0, at.from-b.last.to), b.early+max(0, at.from-b.last.from))
	most = b.high + max(0, at.to-b.last.to)
	return min(b.size, least), min(b.size, most)
}

// spent reports whether certainly nothing is left.
func (b *budgetBounds) spent(at span) bool {
	_, most := b.left(at)
	return most < b.cost
}

// unsure reports whether the kernel may or may not find one attempt left.
func (b *budgetBounds) unsure(at span) bool {
	least, most := b.left(at)
	return least < b.cost && b.cost <= most
}

// near reports whether that may come to be so after any number of packets that are
// sent now or soon.
func (b *budgetBounds) near(at time.Duration) bool {
	soon := min(tick, b.cost/6)
	least, most := b.left(span{from: at, to: at + soon})
	return least/b.cost != most/b.cost
}

// take takes one attempt if one is left.
func (b *budgetBounds) take(at span) {
	least, most := b.left(at)
	width := at.to - at.from
	// Where it is full, it is so at the moment of the input, which may be the last
	// of the span or the first.
	early := min(b.size-width, b.early+max(0, at.from-b.last.from))
	high := min(b.size+width, b.high+max(0, at.to-b.last.to))
	switch {
	case most < b.cost:
		b.low, b.early, b.high = least, early, high
	case least < b.cost:
		b.low, b.early, b.high = 0, -width, max(high-b.cost, min(high, b.cost+width))
	default:
		b.low, b.early, b.high = least-b.cost, early-b.cost, high-b.cost
	}
	b.last = at
}
