package automaton

import (
	"net/netip"
	"slices"
	"time"

	"postern/internal/policy"
)

// An Input is one packet that would open a new connection to this host.
type Input struct {
	Source, Dest netip.Addr
	Port         policy.Port // the destination port
	SourcePort   uint16      // 0 for an ICMP echo request
	Sequence     uint32      // the SYN's sequence number; 0 for UDP and ICMP
}

// A Verdict is the decision about an input.
type Verdict struct {
	Admitted bool
	Rule     int      // the rule of the package comment that decided: 1 to 5; 0 if none did
	From, To StateID  // the source's state before and after
	Door     *Door    // the door whose last knock or token this was, whatever came of it
	Granted  bool     // whether the source got the door's grants
	Closed   bool     // whether the source lost them instead
	Service  *Service // the service admitted to; nil if not admitted
}

// A Reference runs a machine in memory, as simply as possible. It defines what
// a firewall must do. It is not safe for concurrent use.
type Reference struct {
	machine  *Machine
	progress map[netip.Addr]progress
	grants   map[grantKey]*grant
	admitted map[Input]time.Duration // until when
	budgets  map[budgetKey]*bucket
	cut      map[cutKey]time.Duration // when
}

type progress struct {
	state StateID
	until time.Duration
}

type grantKey struct {
	source netip.Addr
	id     GrantID
}

// cutKey is a source and a service whose connections it has ended.
type cutKey struct {
	source  netip.Addr
	service ServiceID
}

// budgetKey is what has a budget of attempts: the first of the addresses that share it.
type budgetKey struct {
	owner netip.Addr
	early bool // of the inputs that Machine.Early reports
}

type grant struct {
	until       time.Duration
	connections bucket // with `admit: any`
}

// bucket holds what has been used of a budget, as time: each use costs one
// second over Rate. The zero value is a full bucket.
type bucket struct {
	spent, at time.Duration
}

// take takes one from the bucket and reports whether there was one left.
func (b *bucket) take(budget Budget, at time.Duration) bool {
	if budget == (Budget{}) {
		return true
	}
	cost := time.Second / time.Duration(budget.Rate)
	b.spent, b.at = max(0, b.spent-(at-b.at)), at
	if b.spent+cost > cost*time.Duration(budget.Burst) {
		return false
	}
	b.spent += cost
	return true
}

// NewReference returns a reference in which nobody has knocked yet.
func NewReference(m *Machine) *Reference {
	return &Reference{
		machine:  m,
		progress: map[netip.Addr]progress{},
		grants:   map[grantKey]*grant{},
		admitted: map[Input]time.Duration{},
		budgets:  map[budgetKey]*bucket{},
		cut:      map[cutKey]time.Duration{},
	}
}

// Replace makes the reference run another machine from now on, as `up` does. What
// sources have earned stays, and counts as far as the machine has its states and
// grants.
func (r *Reference) Replace(m *Machine) { r.machine = m }

// Step judges one input. The time counts from any fixed moment and must not go
// back.
func (r *Reference) Step(at time.Duration, in Input) Verdict {
	in.Source, in.Dest = in.Source.Unmap(), in.Dest.Unmap()
	source := r.machine.Policy.Source.Mask(in.Source)
	from := r.at(source, at)
	v := Verdict{From: from, To: from}
	if r.machine.Policy.IsKeyPort(in.Port) { // no input
		if r.machine.Early(in.Port) && !r.spend(source, in.Port, at) {
			delete(r.progress, source)
			v.Rule, v.To = 3, Root
		}
		return v
	}

	service := r.machine.ServiceAt(in.Dest, in.Port)
	if until, ok := r.admitted[in]; ok && at < until && r.machine.Parameters.Known == SameSYN {
		v.Admitted, v.Rule, v.Service = true, 1, service
		return v
	}
	if service != nil && r.use(source, service, at) {
		r.admitted[in] = at + AdmittedFor
		v.Admitted, v.Rule, v.Service = true, 2, service
		return v
	}

	every := r.machine.Parameters.Counted == EveryInput
	if every && !r.spend(source, in.Port, at) {
		delete(r.progress, source)
		v.Rule, v.To = 3, Root
		return v
	}
	v.Rule = 4
	if r.machine.loops[input{from, in.Port}] {
		r.progress[source] = progress{from, at + r.machine.states[from].Timeout}
		return v
	}
	edge := r.machine.edges[input{from, in.Port}]
	if edge == nil || !edge.KeepsGrants {
		r.forfeit(source)
	}
	delete(r.progress, source)
	v.To = Root
	if from == Root || edge == nil {
		v.Rule = 5
		edge = r.machine.edges[input{Root, in.Port}]
		if edge == nil || !every && !r.spend(source, in.Port, at) {
			return v
		}
	}
	if edge.Door >= 0 {
		v.Door = &r.machine.Doors[edge.Door]
		if edge.Closes {
			r.close(source, v.Door, at)
			v.Closed = true
			return v
		}
		if v.Granted = r.grant(source, in.Source, v.Door, at); !v.Granted {
			return v
		}
	}
	v.To = r.move(source, edge.To, at)
	return v
}

// move takes a source without progress to a state, and returns that.
func (r *Reference) move(source netip.Addr, to StateID, at time.Duration) StateID {
	if to != Root {
		r.progress[source] = progress{to, at + r.machine.states[to].Timeout}
	}
	return to
}

// at returns the state that a source is in.
func (r *Reference) at(source netip.Addr, at time.Duration) StateID {
	if p, ok := r.progress[source]; ok && at < p.until && r.machine.State(p.state) != nil {
		return p.state
	}
	return Root
}

// use reports whether the source holds a grant for the service, and removes the
// grant if it is good for one connection only.
func (r *Reference) use(source netip.Addr, s *Service, at time.Duration) bool {
	for _, i := range s.Grants {
		key := grantKey{source, r.machine.Grants[i].ID}
		g := r.grants[key]
		if g == nil || at >= g.until {
			continue
		}
		if s.Admit == policy.AdmitOne {
			delete(r.grants, key)
			return true
		}
		if g.connections.take(r.machine.Parameters.Connections, at) {
			return true
		}
	}
	return false
}

// grant adds to the source the door's grants and reports whether it may have
// them. `from` is about the sender's own address, not its masked source.
func (r *Reference) grant(source, sender netip.Addr, d *Door, at time.Duration) bool {
	if !d.HasFamilyOf(sender) || !d.AcceptsFrom(sender) {
		return false
	}
	for _, i := range d.Grants {
		g := &grant{until: at + d.OpenFor}
		// A grant starts with one connection taken, because kernels count so.
		g.connections.take(r.machine.Parameters.Connections, at)
		r.grants[grantKey{source, r.machine.Grants[i].ID}] = g
	}
	return true
}

// close removes the grants that a door has given to the source, and ends its connections
// where the door says so.
func (r *Reference) close(source netip.Addr, d *Door, at time.Duration) {
	for _, i := range d.Grants {
		delete(r.grants, grantKey{source, r.machine.Grants[i].ID})
	}
	if d.OnClose != policy.OnCloseCut {
		return
	}
	for in := range r.admitted { // a datagram of a flow is known by its addresses and ports alone
		if s := r.machine.ServiceAt(in.Dest, in.Port); in.Port.Protocol == policy.UDP && s != nil &&
			r.machine.Policy.Source.Mask(in.Source) == source && slices.ContainsFunc(d.Services, func(i int) bool { return s == &r.machine.Services[i] }) {
			delete(r.admitted, in)
		}
	}
	for _, i := range d.Services {
		r.cut[cutKey{source, r.machine.Services[i].ID}] = at
	}
}

// Ended reports whether a connection or a UDP flow to a service, which was let in last at a
// given time, has ended since, as its source has closed a door. What an allow entry lets in
// does not end.
func (r *Reference) Ended(sender netip.Addr, s *Service, since time.Duration) bool {
	cut, ok := r.cut[cutKey{r.machine.Policy.Source.Mask(sender.Unmap()), s.ID}]
	return ok && since <= cut && s.OnClose == policy.OnCloseCut
}

// forfeit removes the grants that a stray packet costs.
func (r *Reference) forfeit(source netip.Addr) {
	for _, id := range r.machine.forfeited {
		delete(r.grants, grantKey{source, id})
	}
}

// spend takes one from the source's budget of attempts and reports whether there
// was one left.
func (r *Reference) spend(source netip.Addr, port policy.Port, at time.Duration) bool {
	budget := r.machine.Parameters.Attempts
	key := budgetKey{AttemptPrefix(r.machine.Policy.Source, source).Addr(), r.machine.Early(port)}
	b := r.budgets[key]
	if b == nil {
		b = &bucket{}
		r.budgets[key] = b
	}
	return b.take(budget, at)
}
