package automaton

import (
	"math"
	"net/netip"
	"slices"
	"time"

	"postern/internal/policy"
)

// An Order is the order in which a scan probes the ports.
type Order string

const (
	// An Ascending scan probes every port in order, twice. If doors use several
	// protocols, it sends an echo request first, then goes through TCP, then
	// through UDP. A Descending scan is the reverse.
	Ascending  Order = "ascending"
	Descending Order = "descending"
	// A Random scan chooses each port independently and never stops.
	Random Order = "random"
)

// A Scan is a sender that knows nothing of the policy and probes every port
// from one address that no door's `from` excludes. It has no key: a door without a
// sequence stays shut.
type Scan struct {
	Order Order
	// Rate is the number of probes a second; 0 means 10,000.
	Rate float64
	// CPUs is how many packets the host may judge at the same moment; 0 means
	// 1. If one processor has read a state, packets on other processors cannot
	// reset it for that one. So of CPUs packets that arrive in a row, any may
	// be the next knock. The results are then bounds in the attacker's favour:
	// fewer probes will not do.
	CPUs int
}

// A Result is the effect of a scan on one door.
type Result struct {
	Door *Door
	// Opens reports whether the scan opens the door at all.
	Opens bool
	// Probes is how many probes it takes, including the last knock: for a scan in
	// order exactly, whether it keeps within the budget of attempts or not; the
	// average for a random one. It is 0 if the door does not open.
	Probes float64
}

// Scan returns the effect of a scan on each door, in the order of Doors.
//
// A probe of a port that `allow` opens to everyone, or of the one that tokens
// arrive at, takes time but does not change anyone's progress.
func (m *Machine) Scan(s Scan) []Result {
	if s.Rate <= 0 {
		s.Rate = 10_000
	}
	s.CPUs = max(1, s.CPUs)
	if s.Order == Random {
		return m.randomScan(s)
	}
	all := map[policy.Protocol]bool{}
	for i := range m.Doors {
		for protocol := range protocols(m.Doors[i].Knock.Sequence) {
			all[protocol] = true
		}
	}
	t := m.targets(all)
	if s.Order == Descending {
		slices.Reverse(t.ports)
	}
	return m.orderedScan(s, t)
}

// The addresses of the scan; any others would do.
var (
	source = netip.AddrFrom4([4]byte{198, 51, 100, 1})
	dest   = netip.AddrFrom4([4]byte{192, 0, 2, 1})
)

// interval returns the time between two probes.
func (s Scan) interval() time.Duration {
	return max(1, time.Duration(float64(time.Second)/s.Rate))
}

// targets are the ports that a scan probes.
type targets struct {
	ports []policy.Port // in ascending order
	// live are the ports that the machine judges: all but those that `allow`
	// opens to everyone, and that tokens arrive at.
	live portSet
}

// A portSet is a set of ports of any protocol, with a place for each.
type portSet struct {
	has  []bool
	size int
}

func newPortSet() portSet { return portSet{has: make([]bool, 3<<16)} }

func place(p policy.Port) int {
	switch p.Protocol {
	case policy.TCP:
		return 1<<16 + int(p.Number)
	case policy.UDP:
		return 2<<16 + int(p.Number)
	}
	return 0 // an echo request has no port
}

func (s *portSet) contains(p policy.Port) bool { return s.has[place(p)] }

func (s *portSet) set(p policy.Port, in bool) {
	if at := place(p); s.has[at] != in {
		s.has[at] = in
		if in {
			s.size++
		} else {
			s.size--
		}
	}
}

// targets returns every port of some protocols.
func (m *Machine) targets(of map[policy.Protocol]bool) targets {
	var t targets
	if of[policy.ICMP] {
		t.ports = append(t.ports, policy.Port{Protocol: policy.ICMP})
	}
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		for n := 1; of[protocol] && n <= math.MaxUint16; n++ {
			t.ports = append(t.ports, policy.Port{Protocol: protocol, Number: uint16(n)})
		}
	}
	t.live = newPortSet()
	for _, port := range t.ports {
		t.live.set(port, true)
	}
	for _, protocol := range []policy.Protocol{policy.TCP, policy.UDP} {
		if p := (policy.Port{Protocol: protocol, Number: m.Policy.Keys.Port.Number}); m.Policy.IsKeyPort(p) {
			t.live.set(p, false)
		}
	}
	for i := range m.Policy.Allow {
		a := &m.Policy.Allow[i]
		if a.From.IsValid() || a.Interface != "" || a.Service == (policy.Service{}) {
			continue
		}
		for n := int(a.Service.First); n <= int(a.Service.Last); n++ {
			t.live.set(policy.Port{Protocol: a.Service.Protocol, Number: uint16(n)}, false)
		}
	}
	return t
}

func protocols(sequence []policy.Port) map[policy.Protocol]bool {
	of := map[policy.Protocol]bool{}
	for _, port := range sequence {
		of[port.Protocol] = true
	}
	return of
}

// orderedScan runs the reference over the targets, twice. It adds the doors
// whose knocks are so close in this order that packets judged at the same
// moment may open them.
//
// It does so with and without a budget of attempts. A sender that has none left need
// only pause, and opens what it would have opened. For one that does not pause, a first
// knock over the budget begins nothing, and the next one may begin at another door.
func (m *Machine) orderedScan(s Scan, t targets) []Result {
	results := make([]Result, len(m.Doors))
	index := make(map[*Door]int, len(m.Doors))
	for i := range m.Doors {
		results[i].Door = &m.Doors[i]
		index[&m.Doors[i]] = i
	}
	opened := func(door *Door, probes int) {
		r := &results[index[door]]
		if !r.Opens || float64(probes) < r.Probes {
			r.Opens, r.Probes = true, float64(probes)
		}
	}
	unbounded := *m
	unbounded.Parameters.Attempts = Budget{}
	for _, ref := range []*Reference{NewReference(m), NewReference(&unbounded)} {
		ref.scanInOrder(s, t, opened)
	}
	if s.CPUs > 1 {
		c := newCycle(t)
		for i := range m.Doors {
			if n, ok := c.walks(m, s, &m.Doors[i]); ok {
				opened(&m.Doors[i], n)
			}
		}
	}
	return results
}

// scanInOrder runs the targets twice, and calls opened for each door that opens. A port that
// means nothing changes no more than the budget if one before it has had its effect.
func (r *Reference) scanInOrder(s Scan, t targets, opened func(*Door, int)) {
	named := r.machine.named()
	in := Input{Source: source, Dest: dest}
	forgotten := false // by a wrong port, and nothing has been earned since
	for n := range 2 * len(t.ports) {
		port, at := t.ports[n%len(t.ports)], time.Duration(n)*s.interval()
		if !t.live.contains(port) {
			continue
		}
		wrong := !named.contains(port)
		if wrong && forgotten { // which is nearly always
			if r.machine.Parameters.Counted == EveryInput {
				r.spend(source, port, at)
			}
			continue
		}
		in.Port, in.Sequence = port, uint32(n)
		v := r.Step(at, in)
		if v.Door != nil && !v.Closed {
			opened(v.Door, n+1)
		}
		forgotten = wrong && v.Rule == 5
	}
}

// named returns the knocks and services of all doors.
func (m *Machine) named() portSet {
	all := newPortSet()
	for i := range m.Doors {
		for _, port := range slices.Concat(m.Doors[i].Door.Services, m.Doors[i].Knock.Sequence, m.Doors[i].Knock.Close) {
			all.set(port, true)
		}
	}
	return all
}

// A cycle is a scan in order that starts again at the end.
type cycle struct {
	index []int // of each live port, by its place; -1 for others
	count []int // how many live ports come before each index
}

// at returns the index of a port and whether it is live.
func (c cycle) at(p policy.Port) (int, bool) {
	i := c.index[place(p)]
	return i, i >= 0
}

func newCycle(t targets) cycle {
	c := cycle{slices.Repeat([]int{-1}, len(t.live.has)), make([]int, 1, len(t.ports)+1)}
	for i, port := range t.ports {
		n := c.count[i]
		if t.live.contains(port) {
			c.index[place(port)] = i
			n++
		}
		c.count = append(c.count, n)
	}
	return c
}

// walks reports whether the scan meets the knocks of a door in order, with
// fewer wrong ports between any two of them than may be judged at the same
// moment. It returns the number of probes up to the last knock.
func (c cycle) walks(m *Machine, s Scan, d *Door) (probes int, ok bool) {
	size := len(c.count) - 1
	sequence := d.Knock.Sequence
	if len(sequence) == 0 {
		return 0, false
	}
	place, ok := c.at(sequence[0])
	if !ok {
		return 0, false
	}
	state := Root
	for i, port := range sequence[1:] {
		state = m.edges[input{state, sequence[i]}].To
		next, ok := c.at(port)
		if !ok {
			return 0, false
		}
		from := place % size
		steps := (next - from + size) % size
		if steps == 0 {
			return 0, false
		}
		wrong := c.count[next] - c.count[from+1]
		if next < from {
			wrong += c.count[size]
		}
		renewals := []int{0, steps} // when the time begins and must not be up, in probes
		for _, loop := range m.states[state].Loops {
			at, live := c.at(loop)
			if after := (at - from + size) % size; live && 0 < after && after < steps {
				wrong--
				renewals = append(renewals, after)
			}
		}
		if wrong >= s.CPUs {
			return 0, false
		}
		slices.Sort(renewals)
		for i, after := range renewals[1:] {
			if s.interval()*time.Duration(after-renewals[i]) >= d.Knock.StepTimeout {
				return 0, false
			}
		}
		place += steps
	}
	return place + 1, true
}
