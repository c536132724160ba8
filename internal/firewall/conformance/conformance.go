// Package conformance tests a firewall backend against the reference automaton:
// it sends random packets through a real kernel with the backend's rules, and
// compares the fate of each with the reference.
//
// A backend joins with one line in a test of its own package, whose TestMain
// calls lab.Main:
//
//	func TestConformance(t *testing.T) { conformance.Run(t, nftables.Backend{}) }
//
// # Other parameters
//
// A backend whose parameters are not Exact joins in the same way; the suite
// asks it what it can do.
//
//   - Policies are compiled by Backend.Machine, and packets judged by the
//     Parameters of the machine, which may differ from policy to policy. They
//     decide whether TCP flows are known, whether an ACK knocks, what takes from
//     the budget of attempts, and what a run must have tested.
//
//   - If Backend.Machine rejects a policy with a *firewall.InexpressibleError,
//     another one is drawn. Only timeouts that it always accepts are used (see
//     paces), and it must be able to express most other policies.
//
//   - If the recipe of the usual how-to (closed, one service a door, one
//     connection a grant, forfeit) has parameters of its own, some policies are
//     drawn like it.
//
//   - If it is a Tagger, tokens are verified by tags: there are keys under each policy,
//     and a run must have tested what tokens do, but nothing else.
//
// # How it works
//
// A plan is a random policy. Under each one, several dozen scenarios run at
// once, each from addresses of its own: knocks, deviations from them, repeats,
// and pauses that end clearly before or clearly after a deadline. Raw sockets
// behind the rules show what the kernel has let in, and another firewall's rules
// between the two write into each packet how it is marked. Afterwards the reference
// judges each scenario with the times at which its packets were really sent,
// and its state is compared with Backend.Inspect at some moments in between.
//
// No kernel is exact to the millisecond. If a packet came too close to a
// deadline, the rest of its scenario is left out; the run fails if too many
// are. A run that has tested some rule too seldom goes on for a while, and
// fails if that does not help.
//
// A failure is reduced by playing parts of it alone, and then printed: the
// policy, the packets, the reference's rule for each, and what the kernel did.
//
// # Reproducing a run
//
// The flags -seed and -packets choose another run or a longer one; POSTERN_SEED
// sets the seed, too. The same seed draws the same policies and packets. If
// several testbeds run at once, they use the following seeds, and a failure
// names its own.
package conformance

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

var (
	packetsFlag = flag.Int("packets", 0, "the least number of packets that the conformance suite sends; 0: about a minute's worth")
	seedFlag    = flag.Uint64("seed", 0, "the seed of the conformance suite; 0: POSTERN_SEED, or a random one")
)

// maxUnsure is the largest share of scenarios that may be left out because of
// noise. Their packets do not count, so a busy machine sends more packets.
const maxUnsure = 0.3

// maxOnce is the number of packets for which one failure may be excused as a
// moment at which the machine stood still. Such a failure must not recur,
// neither alone nor among the same packets.
const maxOnce = 50000

// maxGrowth limits how long a run goes on, as a multiple of its length, until
// it has tested everything often enough. A run has about forty policies, and
// what they happen to draw decides how often a rare event, such as a loop, is
// possible at all. A shorter run has fewer, and may go on as long as one of the
// ordinary length.
const maxGrowth = 3

// leastDropped is the least share of all packets that must have been dropped early, if the
// backend does that.
const leastDropped = 0.001

// minExpressible is the share of random policies that a backend must be able to
// express.
const minExpressible = 0.5

// Run tests a backend against the reference.
func Run(t *testing.T, b firewall.Backend) {
	t.Helper()
	subject, err := newSubject(b)
	if err != nil {
		t.Fatal(err)
	}
	packets := *packetsFlag
	if packets == 0 {
		packets = subject.packets
	}
	longest := maxGrowth * max(packets, subject.packets)
	first := seed(t)
	t.Logf("seed %d", first)
	// Each testbed has a seed of its own, which reproduces its failure alone.
	searches := make([]*search, subject.testbeds)
	for i := range searches {
		own := *subject
		searches[i] = &search{subject: &own, seed: first + uint64(i)}
		defer func() {
			if err := searches[i].close(); err != nil {
				t.Error(err)
			}
		}()
	}
	for length := packets; ; length += (packets + 3) / 4 {
		var all sync.WaitGroup
		for _, s := range searches {
			all.Go(func() { s.run(t, length/len(searches)) })
		}
		all.Wait()
		if t.Failed() {
			return
		}
		var total counts
		for _, s := range searches {
			total.merge(&s.counts)
		}
		if len(total.missing()) == 0 || length >= longest {
			total.judge(t, packets)
			return
		}
	}
}

// run tries policies until it has sent that many packets, or a test fails.
func (s *search) run(t *testing.T, packets int) {
	for s.counts.packets < packets && !t.Failed() {
		f, err := s.round()
		if err != nil {
			t.Errorf("seed %d, policy %d: %v", s.seed, s.rounds-1, err)
			return
		}
		if f == nil {
			continue
		}
		if f, err = s.confirm(f); err != nil {
			t.Error(err)
		}
		if f.alone || f.again {
			t.Error(f)
			return
		}
		t.Log(f)
		s.counts.unrepeated++
	}
}

// judge fails the test if a run of that many packets proves too little.
func (c *counts) judge(t *testing.T, packets int) {
	t.Helper()
	t.Log(c)
	if c.unrepeated > packets/maxOnce {
		t.Errorf("%d failures did not recur: see the log", c.unrepeated)
	}
	for _, m := range c.missing() {
		t.Error(m)
	}
	if float64(c.unsure) > maxUnsure*float64(c.scenarios) {
		t.Errorf("%d of %d scenarios came too close to a deadline: the machine is too busy for timing", c.unsure, c.scenarios)
	}
	if float64(c.policies) < minExpressible*float64(c.drawn) {
		t.Errorf("the backend can express only %d of %d random policies, too few to prove anything", c.policies, c.drawn)
	}
}

func seed(t *testing.T) uint64 {
	if *seedFlag != 0 {
		return *seedFlag
	}
	text := os.Getenv("POSTERN_SEED")
	if text == "" {
		return rand.Uint64N(1e9) + 1
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("POSTERN_SEED is %q: write a number", text)
	}
	return n
}

// Machines returns n Exact machines of random policies, as Run uses them, for
// other tests of a backend.
func Machines(seed uint64, n int) ([]*automaton.Machine, error) {
	s := &subject{compile: automaton.Compile, pace: paces[0]}
	var all []*automaton.Machine
	for i := range n {
		_, m, err := s.draw(rand.New(rand.NewPCG(seed, uint64(i))), []block{0, 1, 2, 3})
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
