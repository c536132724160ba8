package conformance

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/packet"
	"postern/internal/policy"
)

// An event is a packet and the time to send it, counted from the beginning of
// its scenario.
type event struct {
	at    time.Duration
	probe probe
}

// A scenario is what the sources of one block send. Scenarios are independent,
// so that many can run at once.
type scenario []event

const (
	// tick is the unit of times, so that several scenarios send at once.
	tick = 10 * time.Millisecond
	// margin is how far the suite stays from deadlines.
	margin = 45 * time.Millisecond
)

// A writer draws a scenario. It consults the model, so that doors really open.
// The final judgement uses the times at which the packets were really sent.
type writer struct {
	*rand.Rand
	pace    *pace
	model   *model
	ports   []policy.Port // of all doors, knocks and services
	senders []netip.Addr
	skill   float64 // the probability that the next packet is a useful one
	at      time.Duration
	events  scenario
	let     []probe // connections that a grant admitted
	sport   uint16
	enough  int // packets, for now
}

// longest is the largest number of packets in an ordinary scenario. Others run at
// the same time. Sources share budgets of attempts by a hash, and not even two that
// collide may use one up.
var longest = (automaton.Attempts.Burst - 1) / 2

// write draws a scenario of a block.
func write(r *rand.Rand, pace *pace, m *automaton.Machine, b block) scenario {
	w := newWriter(r, pace, m, b)
	if !m.Policy.Answers() && chance(r, 0.7) {
		w.awaitDrops()
	}
	w.openAndClose()
	w.carryOn(5 + r.IntN(longest-4) - len(w.events))
	return w.events
}

// openAndClose begins some scenarios with a door that is opened, used, and closed; more of
// them if that ends flows.
func (w *writer) openAndClose() {
	m, src := w.model.machine, w.senders[0]
	var able, cutting []*automaton.Door
	for i := range m.Doors {
		d := &m.Doors[i]
		if len(d.Knock.Close) == 0 || len(d.Knock.Sequence)+len(d.Knock.Close)+2 > longest {
			continue
		}
		able = append(able, d)
		if d.OnClose == policy.OnCloseCut && slices.ContainsFunc(d.Door.Services, func(p policy.Port) bool { return p.Protocol == policy.UDP }) {
			cutting = append(cutting, d)
		}
	}
	often := 0.12
	if len(cutting) > 0 {
		often, able = 0.4, cutting
	}
	if len(able) == 0 || !chance(w.Rand, often) {
		return
	}
	d := pick(w.Rand, able)
	for _, port := range d.Knock.Sequence {
		w.send(src, port)
	}
	w.enough = longest
	w.close(src, d)
}

// maxBegun is how often a source begins in a flood where every input spends the
// budget. The kernel's hash tables (rhashtable, Linux 6.18) take
// about 32 elements of one key in a moment, those included that have been deleted.
const maxBegun = 10

// writeFlood draws a scenario that uses up one budget of attempts, which its senders
// share, and goes on.
func writeFlood(r *rand.Rand, pace *pace, m *automaton.Machine, b block) scenario {
	w := newWriter(r, pace, m, b)
	w.share(b)
	w.awaitDrops()
	var begins []policy.Port
	for _, e := range m.Edges {
		if e.From == automaton.Root {
			begins = append(begins, e.On)
		}
	}
	f := flood{writer: w, knock: pick(r, begins), begun: map[netip.Addr]int{}, most: maxBegun / 2}
	strays := ports(strayPorts)
	if m.Parameters.Early {
		strays = append(strays, ports(unheardPorts)...)
	}
	for _, port := range strays {
		if m.Early(port) == m.Early(f.knock) {
			f.strays = append(f.strays, port)
		}
	}
	// Of a full budget nobody knows since when it is full. So the first packet is sent
	// alone, and most others before the last ones that count: the time of each of these
	// must be known better than that of a packet among many.
	f.add(1)
	w.wait(tick)
	const last = 4
	f.add(f.left() - last)
	w.wait(tick)
	f.most = maxBegun
	f.add(f.left() + 1 + r.IntN(6))
	if m.Early(f.knock) {
		for range 10 { // a few milliseconds after one that was over the budget, the next may be dropped early
			w.wait(tick)
			f.add(1)
		}
	}
	w.skill = 0.9
	w.carryOn(8 + r.IntN(12))
	return w.events
}

// awaitDrops begins when something may be dropped early, if that is soon: before, any source
// may have progress.
func (w *writer) awaitDrops() {
	const atFirst = 200 * time.Millisecond // more than NewEarly of package bpf adds
	if soon := w.model.machine.Patience() + atFirst; w.model.machine.Parameters.Early && soon < w.pace.lastAt/2 {
		w.at = soon
	}
}

// A flood spends the budget that its senders share.
type flood struct {
	*writer
	knock  policy.Port
	strays []policy.Port      // that take from the same budget
	begun  map[netip.Addr]int // how often each source has begun
	most   int                // how often it may
}

// add adds packets that take n attempts.
func (f *flood) add(n int) {
	const enough = 3 // times as many packets: not all of them count
	for end := len(f.events) + enough*n; n > 0 && len(f.events) < end; {
		src, port := pick(f.Rand, f.senders), pick(f.Rand, f.strays)
		source := f.model.machine.Policy.Source.Mask(src)
		only := f.model.machine.Parameters.Counted == automaton.OnlyFirst
		if (only || f.begun[source] < f.most) && chance(f.Rand, 0.6) {
			port = f.knock
			f.begun[source]++
		}
		was := f.left()
		f.send(src, port)
		if was == 0 || f.left() < was {
			n--
		}
	}
}

// left returns how many attempts are left.
func (f *flood) left() int {
	b := f.model.budgets[budgetKey{f.model.owner(f.senders[0]), f.model.machine.Early(f.knock)}]
	if b == nil {
		return f.model.machine.Parameters.Attempts.Burst
	}
	least, _ := b.left(span{from: f.at, to: f.at})
	return int(least / b.cost)
}

// share makes the senders share a budget of attempts, and not more than that where
// the budget of one source is also its neighbours'.
func (w *writer) share(b block) {
	first := w.senders[0]
	w.senders = w.senders[:1]
	for network := range networks {
		for host := range byte(2) {
			next := b.addr(first.Is6(), network, 5+host)
			if w.model.owner(next) == w.model.owner(first) && (len(w.senders) == 1 || chance(w.Rand, 0.7)) {
				w.senders = append(w.senders, next)
			}
		}
	}
}

func newWriter(r *rand.Rand, pace *pace, m *automaton.Machine, b block) *writer {
	w := &writer{
		Rand: r, pace: pace, model: newModel(m),
		skill: pick(r, []float64{0.5, 0.8, 0.95}), sport: uint16(20000 + r.IntN(20000)),
	}
	for i := range m.Doors {
		w.ports = append(w.ports, m.Doors[i].Knock.Sequence...)
		w.ports = append(w.ports, m.Doors[i].Knock.Close...)
		w.ports = append(w.ports, m.Doors[i].Door.Services...)
	}
	if m.Policy.HasKeys() {
		w.ports = append(w.ports, keyPort)
	}
	v6 := chance(r, 0.5)
	w.senders = append(w.senders, b.addr(v6, 0, byte(1+r.IntN(4))))
	for chance(r, 0.35) {
		// A neighbour: the same source or not, depending on the policy's mask.
		v6 := v6 != chance(r, 0.2)
		w.senders = append(w.senders, b.addr(v6, r.IntN(networks), byte(1+r.IntN(4))))
	}
	return w
}

// carryOn adds up to n packets.
func (w *writer) carryOn(n int) {
	w.enough = len(w.events) + n
	for len(w.events) < w.enough {
		src := w.senders[0]
		if chance(w.Rand, 0.25) {
			src = pick(w.Rand, w.senders)
		}
		w.pause(src)
		if w.at > w.pace.lastAt {
			return
		}
		w.next(src)
	}
}

// pause lets some time pass, or none, so that the next packet is not close to
// anyone's deadline.
func (w *writer) pause(src netip.Addr) {
	switch x := w.Float64(); {
	case x < 0.55:
	case x < 0.7:
		w.at += tick * time.Duration(1+w.IntN(4))
	default:
		if all := w.model.deadlines(w.at, src); len(all) > 0 {
			until := pick(w.Rand, all)
			to := until + margin
			if chance(w.Rand, 0.5) {
				to = until - margin
			}
			if to > w.at && to-w.at < w.pace.patience {
				w.at = (to + tick - 1) / tick * tick
			}
		}
	}
	w.avoid()
}

// avoid moves on until no deadline is close.
func (w *writer) avoid() {
	for near := true; near; {
		near = false
		for _, s := range w.senders {
			if w.model.near(w.at, s, margin-tick) {
				near = true
				w.at += tick
			}
		}
	}
}

func (w *writer) wait(d time.Duration) {
	w.at += d
	w.avoid()
}

// next adds one packet of the source.
func (w *writer) next(src netip.Addr) {
	if !chance(w.Rand, w.skill) || !w.sendUseful(src) {
		w.add(w.randomProbe(src))
	}
}

// randomProbe returns a packet that is useful only by chance.
func (w *writer) randomProbe(src netip.Addr) probe {
	port := pick(w.Rand, w.ports)
	switch x := w.IntN(8); {
	case x < 2 && len(w.events) > 0: // sent again, or almost
		s := pick(w.Rand, w.events).probe
		if chance(w.Rand, 0.3) {
			s.seq++
		}
		if chance(w.Rand, 0.05) {
			s.link = 1 - s.link
		}
		if s.token != "" { // which is told from the other one by its flow
			w.sport++
			s.sport = w.sport
		}
		return s
	case x == 2:
		port = pick(w.Rand, ports(strayPorts))
	case x == 3:
		port = pick(w.Rand, ports(allowPorts))
	case x == 4: // the right number of the wrong protocol
		switch port.Protocol {
		case policy.TCP:
			port.Protocol = policy.UDP
		case policy.UDP:
			port.Protocol = policy.TCP
		}
	case x == 5 && port.Protocol == policy.TCP: // not an input
		s := w.probe(src, port)
		s.flags = packet.ACK
		return s
	}
	return w.probe(src, port)
}

// sendUseful sends a packet that makes progress: it uses a grant or makes the
// next knock of a door. It reports whether there was one.
func (w *writer) sendUseful(src netip.Addr) bool {
	if len(w.let) > 0 && chance(w.Rand, 0.12) {
		w.add(w.followUp(pick(w.Rand, w.let)))
		return true
	}
	m := w.model.machine
	all := w.model.ref.SourceState(src)
	h := all.At(w.at)
	var open, shut []*automaton.Service
	var mine []*automaton.Door // that the source can close again
	for i := range m.Grants {
		g := &m.Grants[i]
		s := &m.Services[g.Service]
		if _, ok := h.Grants[g.ID]; ok {
			open = append(open, s)
			if d := &m.Doors[g.Door]; len(d.Knock.Close) > 0 {
				mine = append(mine, d)
			}
		} else if _, ok := all.Grants[g.ID]; ok {
			shut = append(shut, s)
		}
	}
	if len(mine) > 0 && chance(w.Rand, 0.2) && w.close(src, pick(w.Rand, mine)) {
		return true
	}
	state := m.State(h.State)
	if state != nil && state.Opened && len(state.Path) > 1 && len(h.Grants) > 0 && chance(w.Rand, 0.35) {
		w.send(src, state.Path[0]) // the only knock that costs no grant
		return true
	}
	if len(open) > 0 && chance(w.Rand, 0.6) {
		w.connect(src, pick(w.Rand, open))
		return true
	}
	if len(m.Tokens) > 0 && chance(w.Rand, 0.4) {
		w.sendToken(src)
		return true
	}
	if len(shut) > 0 && chance(w.Rand, 0.5) { // too late
		w.connect(src, pick(w.Rand, shut))
		return true
	}
	if state != nil && len(state.Loops) > 0 && chance(w.Rand, 0.1) {
		w.send(src, pick(w.Rand, state.Loops))
		return true
	}
	var on []policy.Port
	for _, e := range m.Edges {
		if e.From == h.State && (w.mayOpen(&e) || chance(w.Rand, 0.2)) {
			on = append(on, e.On)
		}
	}
	if len(on) == 0 {
		return false
	}
	w.send(src, pick(w.Rand, on))
	return true
}

// mayOpen reports whether an edge is on the way of a sequence that opens a door.
func (w *writer) mayOpen(e *automaton.Edge) bool {
	m := w.model.machine
	path := []policy.Port{e.On}
	if from := m.State(e.From); from != nil {
		path = append(slices.Clone(from.Path), e.On)
	}
	to := automaton.State{Path: path}
	return e.KeepsGrants || slices.ContainsFunc(m.Doors, func(d automaton.Door) bool { return to.Begins(d.Knock.Sequence) })
}

// close closes a door, if there is room for that, and may go on with flows that the door has
// let in. It reports whether it has sent anything.
func (w *writer) close(src netip.Addr, d *automaton.Door) bool {
	left := w.enough - len(w.events) - len(d.Knock.Close)
	if left < 0 {
		return false
	}
	for _, s := range d.Services {
		if port := w.model.machine.Services[s].Port; port.Protocol == policy.UDP && left > 1 && chance(w.Rand, 0.8) {
			left--
			w.connect(src, &w.model.machine.Services[s])
		}
	}
	for _, port := range d.Knock.Close {
		w.send(src, port)
	}
	for _, s := range w.let {
		if s.src == src && s.port.Protocol == policy.UDP && slices.Contains(d.Door.Services, s.port) && left > 0 && chance(w.Rand, 0.7) {
			left--
			w.add(s)
		}
	}
	return true
}

// bare are the flags of packets that open no connection. A scan has odder
// ones, which a rule set may drop first.
var bare = []packet.TCPFlags{
	packet.ACK, packet.ACK, packet.PSH | packet.ACK, packet.FIN | packet.ACK, packet.RST, packet.SYN | packet.ACK,
}

// followUp returns a packet that may follow one that was admitted: the same
// again, because its answer was lost; another one of its flow; or another
// connection.
func (w *writer) followUp(s probe) probe {
	switch x := w.Float64(); {
	case x < 0.3:
		w.sport++
		s.sport = w.sport
	case x < 0.5 && s.port.Protocol == policy.TCP && w.model.machine.Parameters.Known == automaton.SameSYN:
		s.seq++ // another connection, though of the same ports
	case x < 0.5 && s.port.Protocol == policy.TCP:
		s.seq, s.flags = w.Uint32(), pick(w.Rand, []packet.TCPFlags{packet.SYN, packet.ACK, packet.PSH | packet.ACK})
	}
	return s
}

// connect sends a packet to a service.
func (w *writer) connect(src netip.Addr, s *automaton.Service) {
	probe := w.probe(src, s.Port)
	if s.Address.IsValid() && s.Address.Is4() == src.Is4() && chance(w.Rand, 0.6) {
		probe.dst = s.Address
	}
	w.add(probe)
}

func (w *writer) send(src netip.Addr, port policy.Port) { w.add(w.probe(src, port)) }

// probe returns a packet of a new flow.
func (w *writer) probe(src netip.Addr, port policy.Port) probe {
	servers := servers4
	if src.Is6() {
		servers = servers6
	}
	s := probe{src: src, dst: servers[0], port: port, seq: w.Uint32(), flags: packet.SYN}
	if chance(w.Rand, 0.2) {
		s.dst = servers[1]
	}
	if port.Protocol != policy.TCP {
		s.flags = 0
	} else if chance(w.Rand, 0.1) {
		s.flags |= packet.ECE | packet.CWR // a SYN that offers ECN
	} else if w.model.machine.Parameters.Inputs == automaton.AnyPacket && chance(w.Rand, 0.25) {
		s.flags = pick(w.Rand, bare)
	}
	if other := 0.02; chance(w.Rand, other) || len(w.model.machine.Policy.Interfaces) > 0 && chance(w.Rand, 5*other) {
		s.link = 1
	}
	w.sport++
	s.sport = w.sport
	return s
}

func (w *writer) add(s probe) {
	v := w.model.step(span{from: w.at, to: w.at}, s)
	if v.verdict.Rule == 2 && s.opensConnection() {
		w.let = append(w.let, s)
	}
	w.events = append(w.events, event{w.at, s})
}
