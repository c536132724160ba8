package automaton

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postern/internal/policy"
)

func tcp(n uint16) policy.Port { return policy.Port{Protocol: policy.TCP, Number: n} }
func udp(n uint16) policy.Port { return policy.Port{Protocol: policy.UDP, Number: n} }

var echo = policy.Port{Protocol: policy.ICMP}

// door returns a door with the how-to's times. The scans here do not reach its
// service unless a test says so.
func door(retransmits policy.Retransmits, sequence ...policy.Port) policy.Door {
	return policy.Door{
		Name:     "d",
		Services: []policy.Port{{Protocol: policy.TCP, Number: 0}},
		Knock: policy.Knock{
			Sequence: sequence, StepTimeout: 3 * time.Second, Retransmits: retransmits,
		},
		OpenFor: 10 * time.Second,
		Admit:   policy.AdmitOne,
	}
}

func machine(t interface{ Fatal(...any) }, p policy.Policy) *Machine {
	p.Source = policy.Source{IPv4: 32, IPv6: 128}
	m, err := Compile(&p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func allow(first, last uint16) policy.Allow {
	return policy.Allow{Service: policy.Service{Protocol: policy.TCP, First: first, Last: last}}
}

func TestScanInOrder(t *testing.T) {
	const reset, ignore = policy.RetransmitsReset, policy.RetransmitsIgnore
	between := door(ignore, tcp(79), tcp(81))
	between.Services = []policy.Port{tcp(80)}
	wide := door(ignore, tcp(79), tcp(82))
	wide.Services = between.Services
	betweenReset := between
	betweenReset.Knock.Retransmits = reset

	for name, test := range map[string]struct {
		door  policy.Door
		allow []policy.Allow
		scan  Scan
		want  float64 // 0: it does not open
	}{
		"the how-to, up":   {door(reset, tcp(1234), tcp(2345), tcp(3456)), nil, Scan{Order: Ascending}, 0},
		"the how-to, down": {door(reset, tcp(1234), tcp(2345), tcp(3456)), nil, Scan{Order: Descending}, 0},

		"neighbours, up":        {door(reset, tcp(7000), tcp(7001), tcp(7002)), nil, Scan{Order: Ascending}, 7002},
		"neighbours, down":      {door(reset, tcp(7000), tcp(7001), tcp(7002)), nil, Scan{Order: Descending}, 0},
		"neighbours reversed":   {door(reset, tcp(7002), tcp(7001), tcp(7000)), nil, Scan{Order: Descending}, 65536 - 7000},
		"from the last port on": {door(reset, tcp(65535), tcp(1)), nil, Scan{Order: Ascending}, 65536},
		"one knock":             {door(reset, tcp(9)), nil, Scan{Order: Descending}, 65536 - 9},

		"too slow a scan":    {door(reset, tcp(7000), tcp(7001)), nil, Scan{Order: Ascending, Rate: 0.33}, 0},
		"just fast enough":   {door(reset, tcp(7000), tcp(7001)), nil, Scan{Order: Ascending, Rate: 0.34}, 7001},
		"one knock, slow":    {door(reset, tcp(7000)), nil, Scan{Order: Ascending, Rate: 0.01}, 7000},
		"a loop in between":  {between, nil, Scan{Order: Ascending}, 81},
		"the same, no loop":  {betweenReset, nil, Scan{Order: Ascending}, 0},
		"allowed in between": {door(reset, tcp(79), tcp(81)), []policy.Allow{allow(80, 80)}, Scan{Order: Ascending}, 81},
		"all but one allowed in between": {
			door(reset, tcp(79), tcp(82)), []policy.Allow{allow(80, 80)}, Scan{Order: Ascending}, 0,
		},
		"many allowed in between": {
			door(reset, tcp(7999), tcp(8100)), []policy.Allow{allow(8000, 8099)}, Scan{Order: Ascending, Rate: 100}, 8100,
		},
		"the step runs out over them": {
			door(reset, tcp(7999), tcp(8100)), []policy.Allow{allow(8000, 8099)}, Scan{Order: Ascending, Rate: 10}, 0,
		},
		"a knock that is allowed": {door(reset, tcp(80), tcp(81)), []policy.Allow{allow(80, 80)}, Scan{Order: Ascending}, 0},

		"all UDP":           {door(reset, udp(5), udp(6)), nil, Scan{Order: Ascending}, 6},
		"TCP, then UDP":     {door(reset, tcp(65535), udp(1)), nil, Scan{Order: Ascending}, 65536},
		"echo first":        {door(reset, echo, tcp(1)), nil, Scan{Order: Ascending}, 2},
		"UDP among TCP":     {door(reset, tcp(5), udp(6), tcp(7)), nil, Scan{Order: Ascending}, 0},
		"one apart":         {door(reset, tcp(5), tcp(7)), nil, Scan{Order: Ascending}, 0},
		"one apart, 2 CPUs": {door(reset, tcp(5), tcp(7)), nil, Scan{Order: Ascending, CPUs: 2}, 7},
		"two apart, 2 CPUs": {door(reset, tcp(5), tcp(8)), nil, Scan{Order: Ascending, CPUs: 2}, 0},
		"down, 8 CPUs":      {door(reset, tcp(20), tcp(15), tcp(7)), nil, Scan{Order: Descending, CPUs: 8}, 65536 - 7},
		"round, 2 CPUs":     {door(reset, tcp(65535), tcp(2)), nil, Scan{Order: Ascending, CPUs: 2}, 65537},
		"2 CPUs, too slow":  {door(reset, tcp(5), tcp(7)), nil, Scan{Order: Ascending, CPUs: 2, Rate: 0.5}, 0},
		"a loop renews the step": {
			between, []policy.Allow{allow(1, 78)}, Scan{Order: Ascending, Rate: 0.5}, 81,
		},
		"2 CPUs, a loop renews the step":  {wide, nil, Scan{Order: Ascending, CPUs: 2, Rate: 0.8}, 82},
		"2 CPUs, too slow in spite of it": {wide, nil, Scan{Order: Ascending, CPUs: 2, Rate: 0.6}, 0},
		"2 CPUs, a loop in between": {
			between, []policy.Allow{allow(1, 78)}, Scan{Order: Ascending, CPUs: 2}, 81,
		},
		"the same port twice": {door(reset, tcp(5), tcp(5)), nil, Scan{Order: Ascending, CPUs: 64}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t, policy.Policy{Doors: []policy.Door{test.door}, Allow: test.allow})
			got := m.Scan(test.scan)[0]
			if got.Opens != (test.want > 0) || got.Probes != test.want {
				t.Errorf("opens %v after %v probes, want %v", got.Opens, got.Probes, test.want)
			}
		})
	}
}

// Whatever it spends of its budget, a scan in order opens what it would open at
// leisure: its sender may pause before a door's first knock, however long.
func TestScanInOrderMayPause(t *testing.T) {
	var p policy.Policy
	for i := range 200 {
		first := uint16(100 + 10*i)
		d := door(policy.RetransmitsReset, tcp(first), tcp(first+1))
		d.Services[0].Number = uint16(50000 + i)
		p.Doors = append(p.Doors, d)
	}
	m := machine(t, p)
	for name, counted := range map[string]Counted{"every input counts": EveryInput, "only first knocks count": OnlyFirst} {
		t.Run(name, func(t *testing.T) {
			m.Parameters.Counted = counted
			for i, r := range m.orderedScan(Scan{Order: Ascending, Rate: 200_000}, m.targetsUpTo(2100)) {
				if want := float64(101 + 10*i); r.Probes != want {
					t.Errorf("door %d opens after %v probes, want %v", i, r.Probes, want)
				}
			}
		})
	}
}

// targetsUpTo returns the TCP ports up to last, without those allowed.
func (m *Machine) targetsUpTo(last int) targets {
	t := m.targets(map[policy.Protocol]bool{policy.TCP: true})
	for _, port := range t.ports[last:] {
		t.live.set(port, false)
	}
	t.ports = t.ports[:last]
	return t
}

// For one processor, the analysis of close knocks and the reference must agree
// about a single door.
func TestWalksIsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallPolicy(t, 1)
		m := machine(t, p)
		ts := m.targetsUpTo(smallPorts)
		if rapid.Bool().Draw(t, "descending") {
			slices.Reverse(ts.ports)
		}
		s := Scan{Rate: rapid.SampledFrom([]float64{0.5, 1, 4, 1000}).Draw(t, "rate"), CPUs: 1}
		want := m.orderedScan(s, ts)[0]
		n, ok := newCycle(ts).walks(m, s, &m.Doors[0])
		if ok && n > 2*len(ts.ports) {
			return // a scan of two rounds does not get there
		}
		if ok != want.Opens || ok && float64(n) != want.Probes {
			t.Fatalf("walks: %v after %d; the reference: %v after %v", ok, n, want.Opens, want.Probes)
		}
	})
}

// TestScanInOrderIsTheReference: what a scan in order leaves out, ports that mean nothing
// after others of that kind, makes no difference.
func TestScanInOrderIsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := machine(t, smallPolicy(t, 3))
		m.Parameters.Counted = rapid.SampledFrom([]Counted{EveryInput, OnlyFirst}).Draw(t, "counted")
		m.Parameters.Attempts = Budget{Rate: rapid.IntRange(1, 30).Draw(t, "attempts"), Burst: rapid.IntRange(1, 30).Draw(t, "burst")}
		ts := m.targetsUpTo(5 * smallPorts)
		s := Scan{Rate: rapid.SampledFrom([]float64{1, 10, 30, 1000}).Draw(t, "rate"), CPUs: 1}
		var got, want []string
		NewReference(m).scanInOrder(s, ts, func(d *Door, probes int) { got = append(got, fmt.Sprint(d.Name, probes)) })
		ref := NewReference(m)
		for n := range 2 * len(ts.ports) {
			port := ts.ports[n%len(ts.ports)]
			if !ts.live.contains(port) {
				continue
			}
			in := Input{Source: source, Dest: dest, Port: port, Sequence: uint32(n)}
			if v := ref.Step(time.Duration(n)*s.interval(), in); v.Door != nil {
				want = append(want, fmt.Sprint(v.Door.Name, n+1))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("it opens %v; the reference: %v", got, want)
		}
	})
}

// smallPorts is how many ports the small policies use, few enough for random
// scans to open their doors during a test.
const smallPorts = 7

// smallPolicy draws a policy whose doors have different first knocks.
func smallPolicy(t *rapid.T, doors int) policy.Policy {
	var p policy.Policy
	port := rapid.Uint16Range(1, smallPorts)
	used := map[uint16]bool{}
	for i := range doors {
		first := port.Filter(func(n uint16) bool { return !used[n] }).Draw(t, "first")
		used[first] = true
		sequence := []policy.Port{tcp(first)}
		for _, n := range rapid.SliceOfN(port, 0, 2).Draw(t, "rest") {
			sequence = append(sequence, tcp(n))
		}
		d := door(rapid.SampledFrom([]policy.Retransmits{policy.RetransmitsReset, policy.RetransmitsIgnore}).
			Draw(t, "retransmits"), sequence...)
		d.Knock.StepTimeout = time.Duration(rapid.IntRange(1, 30).Draw(t, "step timeout")) * 100 * time.Millisecond
		d.Forfeit = rapid.Bool().Draw(t, "forfeit")
		// The first door's services may be loops. Those of other doors are no
		// targets: once granted, they would be admitted instead.
		d.Services = []policy.Port{tcp(uint16(60000 + i))}
		if i == 0 && rapid.Bool().Draw(t, "service in reach") {
			d.Services[0] = tcp(port.Draw(t, "service"))
		}
		p.Doors = append(p.Doors, d)
	}
	if rapid.Bool().Draw(t, "allows") {
		n := port.Draw(t, "allow")
		p.Allow = append(p.Allow, allow(n, n))
	}
	return p
}

func TestRandomScanClosedForms(t *testing.T) {
	const n = 65535.0
	const reset, ignore = policy.RetransmitsReset, policy.RetransmitsIgnore
	long := make([]policy.Port, 32)
	for i := range long {
		long[i] = tcp(uint16(1000 + 7*i))
	}
	for name, test := range map[string]struct {
		door  policy.Door
		allow []policy.Allow
		scan  Scan
		want  float64
	}{
		// The waiting time for a word without self-overlap is the number of
		// words of its length; each overlap adds its own.
		"one knock":             {door(reset, tcp(9)), nil, Scan{}, n},
		"two knocks":            {door(reset, tcp(9), tcp(7)), nil, Scan{}, n * n},
		"the how-to":            {door(reset, tcp(1234), tcp(2345), tcp(3456)), nil, Scan{}, n * n * n},
		"there and back":        {door(reset, tcp(9), tcp(7), tcp(9)), nil, Scan{}, n*n*n + n},
		"the same port thrice":  {door(reset, tcp(9), tcp(9), tcp(9)), nil, Scan{}, n*n*n + n*n + n},
		"thirty-two knocks":     {door(reset, long...), nil, Scan{}, math.Pow(n, 32)},
		"all UDP":               {door(reset, udp(9), udp(7)), nil, Scan{}, n * n},
		"TCP and UDP":           {door(reset, tcp(9), udp(7)), nil, Scan{}, 4 * n * n},
		"all three":             {door(reset, tcp(9), udp(7), echo), nil, Scan{}, math.Pow(2*n+1, 3)},
		"echo alone":            {door(reset, echo), nil, Scan{Rate: 1}, 1},
		"half of it is allowed": {door(reset, tcp(9)), []policy.Allow{allow(32768, 65535)}, Scan{}, n},
		"a knock that is allowed": {
			door(reset, tcp(9), tcp(7)), []policy.Allow{allow(7, 7)}, Scan{}, 0,
		},
		"everything is allowed": {door(reset, tcp(9)), []policy.Allow{allow(0, 65535)}, Scan{}, 0},
		"too slow":              {door(ignore, tcp(9), tcp(7)), nil, Scan{Rate: 0.3}, 0},
		"one knock is never too slow": {
			door(reset, tcp(9)), nil, Scan{Rate: 0.3}, n,
		},
		"one knock, any number of CPUs": {door(reset, tcp(9)), nil, Scan{CPUs: 4}, n},
	} {
		t.Run(name, func(t *testing.T) {
			test.scan.Order = Random
			m := machine(t, policy.Policy{Doors: []policy.Door{test.door}, Allow: test.allow})
			m.Parameters.Attempts = Budget{}
			got := m.Scan(test.scan)[0]
			if got.Opens != (test.want > 0) || math.Abs(got.Probes-test.want) > 1e-9*test.want {
				t.Errorf("opens %v after %v probes on average, want %v", got.Opens, got.Probes, test.want)
			}
		})
	}
}

// From one address no more than 10 packets a second count, so at any rate a door takes
// as long as if only these were sent.
func TestRandomScanOfHowTo(t *testing.T) {
	m := machine(t, policy.Policy{Doors: []policy.Door{door(policy.RetransmitsReset, tcp(1234), tcp(2345), tcp(3456))}})
	const n = 65535.0
	want := n * n * n / float64(Attempts.Rate) // seconds
	for _, rate := range []float64{10, 10_000, 1_000_000} {
		if got := m.Scan(Scan{Order: Random, Rate: rate})[0].Probes / rate; math.Abs(got/want-1) > 1e-9 {
			t.Errorf("at %v/s it takes %v s, want %v", rate, got, want)
		}
	}
}

// With several packets judged at the same moment, each later knock is that many
// times as likely, and no more.
func TestRandomScanManyCPUs(t *testing.T) {
	m := machine(t, policy.Policy{Doors: []policy.Door{door(policy.RetransmitsReset, tcp(9), tcp(7), tcp(8))}})
	one, four := m.Scan(Scan{Order: Random})[0].Probes, m.Scan(Scan{Order: Random, CPUs: 4})[0].Probes
	if ratio := one / four; math.Abs(ratio-16) > 0.01 {
		t.Errorf("four processors make it %v times as easy, want 16", ratio)
	}
}

// tooLong is how many probes a simulated scan makes before it gives up.
const tooLong = 20_000

// simulate sends random probes to the reference until it opens the door. It
// does so many times, and returns the average number of probes and of first
// knocks.
func simulate(m *Machine, index int, s Scan, ts targets, runs int, random *rand.Rand) (probes, first average) {
	for range runs {
		ref := NewReference(m)
		n, knocks := 0, 0
		for n < tooLong {
			port := ts.ports[random.IntN(len(ts.ports))]
			n++
			if !ts.live.contains(port) {
				continue
			}
			in := Input{Source: source, Dest: dest, Port: port, Sequence: uint32(n)}
			v := ref.Step(time.Duration(n)*s.interval(), in)
			if v.Rule == 5 && (v.To != Root || v.Door != nil) {
				knocks++
			}
			if v.Door == &m.Doors[index] {
				break
			}
		}
		probes.add(n)
		first.add(knocks)
	}
	return probes, first
}

type average struct{ n, sum, squares float64 }

func (a *average) add(x int) {
	a.n++
	a.sum += float64(x)
	a.squares += float64(x) * float64(x)
}

func (a average) mean() float64 { return a.sum / a.n }

// margin is six standard deviations of the mean, plus what events too rare to
// be seen may add.
func (a average) margin() float64 {
	return 6*math.Sqrt(max(0, a.squares/a.n-a.mean()*a.mean())/a.n) + 20*(1+a.mean())/a.n
}

// The chain must agree with the reference, with loops, deadlines, allowed ports
// and other doors in the policy.
func TestRandomScanIsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := smallPolicy(t, rapid.IntRange(1, 3).Draw(t, "doors"))
		m := machine(t, p)
		// At up to 10 probes a second the budget is never spent.
		s := Scan{Order: Random, Rate: rapid.SampledFrom([]float64{0.4, 1, 4, 10}).Draw(t, "rate"), CPUs: 1}
		ts := m.targetsUpTo(smallPorts)
		c := newRandomModel(m, s, ts, m.outgoing())
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		got := c.open(0)
		if !got.Opens {
			if n, _ := simulate(m, 0, s, ts, 1, random); n.mean() < tooLong {
				t.Fatalf("does not open, but did after %v probes", n.mean())
			}
			return
		}
		if got.Probes > tooLong/10 {
			return // too slow for a test
		}
		_, knocks := c.chain(0).solve()
		runs := int(400_000 / (got.Probes + 20))
		probes, first := simulate(m, 0, s, ts, runs, random)
		if math.Abs(probes.mean()-got.Probes) > probes.margin() {
			t.Errorf("%v probes on average, but %v ± %v in %d runs of the reference", got.Probes, probes.mean(), probes.margin(), runs)
		}
		if math.Abs(first.mean()-knocks) > first.margin() {
			t.Errorf("%v first knocks on average, but %v ± %v in %d runs of the reference", knocks, first.mean(), first.margin(), runs)
		}
	})
}

// Where the budget of attempts matters, the answer is a lower bound. It is close to
// the truth where the budget hardly matters, and where first knocks count and nothing
// else does. (Where every input counts, what is over the budget resets as well; a
// sender that keeps to the budget comes close.)
func TestRandomScanBudget(t *testing.T) {
	every := Parameters{Attempts: Attempts, Counted: EveryInput}
	first := Parameters{Attempts: FirstKnocks, Counted: OnlyFirst}
	for _, test := range []struct {
		name       string
		parameters Parameters
		rate       float64
		atMost     float64 // the truth as a multiple of the answer
		budgets    bool    // whether the budget makes any difference
	}{
		{"every input", every, 10, 1.2, false},
		{"every input", every, 25, 1000, true},
		{"every input", every, 60, 1000, true},
		{"first knocks", first, 100, 1.2, false},
		{"first knocks", first, 300, 1.5, true},
		{"first knocks", first, 1000, 1.2, true},
	} {
		t.Run(fmt.Sprintf("%s at %v a second", test.name, test.rate), func(t *testing.T) {
			m := machine(t, policy.Policy{Doors: []policy.Door{door(policy.RetransmitsReset, tcp(3), tcp(5), tcp(2))}})
			m.Parameters = test.parameters
			ts := m.targetsUpTo(smallPorts)
			s := Scan{Order: Random, Rate: test.rate, CPUs: 1}
			got := newRandomModel(m, s, ts, m.outgoing()).open(0).Probes
			truth, _ := simulate(m, 0, s, ts, 500, rand.New(rand.NewPCG(1, 2)))
			t.Logf("%v probes at least, and %v ± %v", got, truth.mean(), truth.margin())
			if got > truth.mean()+truth.margin() || truth.mean() > test.atMost*got+truth.margin() {
				t.Error("that is not a close lower bound")
			}
			if free := math.Pow(smallPorts, 3); (got > 1.01*free) != test.budgets {
				t.Errorf("%v probes, and %v without a budget", got, free)
			}
		})
	}
}

// TestRandomScanTwoBudgets: where SYNs have a budget of their own, a scan of both kinds of
// ports counts at most twice as fast, and not faster than the answer says.
func TestRandomScanTwoBudgets(t *testing.T) {
	m := machine(t, policy.Policy{Doors: []policy.Door{door(policy.RetransmitsReset, tcp(3), udp(1), tcp(2))}})
	ts := targets{live: newPortSet()}
	for n := range uint16(4) {
		ts.ports = append(ts.ports, tcp(n+1), udp(n+1))
		ts.live.set(tcp(n+1), true)
		ts.live.set(udp(n+1), true)
	}
	s := Scan{Order: Random, Rate: 60, CPUs: 1}
	var probes [3]float64
	for i := range probes {
		early := i > 0
		m.Parameters = Parameters{Attempts: Attempts, Counted: EveryInput, Early: early, EarlyUDP: i > 1}
		probes[i] = newRandomModel(m, s, ts, m.outgoing()).open(0).Probes
		if truth, _ := simulate(m, 0, s, ts, 100, rand.New(rand.NewPCG(1, 2))); probes[i] > truth.mean()+truth.margin() {
			t.Errorf("early %v: at least %v probes, and it took %v ± %v", early, probes[i], truth.mean(), truth.margin())
		}
	}
	if ratio := probes[0] / probes[1]; ratio < 1.9 || ratio > 2.1 {
		t.Errorf("%v probes with one budget, %v with two", probes[0], probes[1])
	}
	if probes[2] != probes[1] { // not every kernel counts datagrams with SYNs
		t.Errorf("%v probes with two budgets, %v if one has datagrams, too", probes[1], probes[2])
	}
}

// TestRandomScanPaused: a sender that pauses for a whole budget before each burst of
// probes is bound as one that sends evenly.
func TestRandomScanPaused(t *testing.T) {
	m := machine(t, policy.Policy{Doors: []policy.Door{door(policy.RetransmitsReset, tcp(3), tcp(5), tcp(2))}})
	ts := m.targetsUpTo(smallPorts)
	const rate = 1000
	bound := newRandomModel(m, Scan{Order: Random, Rate: rate, CPUs: 1}, ts, m.outgoing()).open(0).Probes / rate
	random := rand.New(rand.NewPCG(1, 2))
	pause := time.Second * time.Duration(Attempts.Burst) / time.Duration(Attempts.Rate)
	var seconds average // in tenths
	for range 2000 {
		ref := NewReference(m)
		at := time.Duration(0)
		for n := 1; ; n++ {
			in := Input{Source: source, Dest: dest, Port: ts.ports[random.IntN(len(ts.ports))], Sequence: uint32(n)}
			if v := ref.Step(at, in); v.Door != nil {
				break
			}
			if at += time.Second / rate; n%Attempts.Burst == 0 {
				at += pause
			}
		}
		seconds.add(int(at / (time.Second / 10)))
	}
	t.Logf("%v s at least, and %v ± %v", bound, seconds.mean()/10, seconds.margin()/10)
	if bound > (seconds.mean()+seconds.margin())/10 {
		t.Error("the bound is too high")
	}
}

// Leaving the other doors' states out of the chain of a large machine changes
// almost nothing.
func TestRandomScanLargeMachine(t *testing.T) {
	var p policy.Policy
	for i := range uint16(30) {
		// Each knock is also a knock of another door.
		p.Doors = append(p.Doors, door(policy.RetransmitsIgnore, tcp(100+i), tcp(110+i), tcp(90+i)))
		p.Doors[i].Services[0].Number = 2000 + i
	}
	m := machine(t, p)
	ts := m.targets(map[policy.Protocol]bool{policy.TCP: true})
	c := newRandomModel(m, Scan{Order: Random, Rate: 1000, CPUs: 1}, ts, m.outgoing())
	if !c.exact {
		t.Fatalf("%d states are too many for this test", len(m.States))
	}
	for i := range m.Doors {
		c.exact = true
		exact := c.open(i).Probes
		c.exact = false
		if got := c.open(i).Probes; math.Abs(got/exact-1) > 1e-3 {
			t.Errorf("door %d: %v, and %v with all states", i, got, exact)
		}
	}
}

func BenchmarkScan(b *testing.B) {
	var p policy.Policy
	for i := range uint16(10_000) {
		p.Doors = append(p.Doors, door(policy.RetransmitsIgnore, tcp(1+i), tcp(20_000+i), tcp(40_000-i)))
		p.Doors[i].Services[0].Number = 50_000 + i
	}
	m := machine(b, p)
	for _, order := range []Order{Ascending, Random} {
		b.Run(string(order), func(b *testing.B) {
			for b.Loop() {
				m.Scan(Scan{Order: order, CPUs: 8})
			}
		})
	}
}
