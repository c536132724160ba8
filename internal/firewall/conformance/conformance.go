// Package conformance holds a firewall backend to the reference automaton: it
// sends random packets through a real kernel that the backend has set up, and
// compares what becomes of each with what the reference says.
//
// A backend joins with one line in a test of its own package, whose TestMain
// calls lab.Main:
//
//	func TestConformance(t *testing.T) { conformance.Run(t, nftables.Backend{}) }
//
// # Other parameters
//
// A backend that is no exact automaton joins in the same way, and in no other: the
// suite asks it what it can do.
//
//   - Policies are compiled by Backend.Machine, and packets judged by the Parameters
//     of the machine, which may differ from policy to policy. TCP flows are known, an
//     ACK knocks and first knocks are unbounded where they say so, and what a run must
//     have met with follows from them.
//   - What Backend.Machine refuses with an *firewall.InexpressibleError is drawn
//     again. Only timeouts of which it refuses none are drawn (see paces), and most
//     other policies must be among those that it can express.
//   - If the recipe that every knocking how-to has (closed, one service a door, one
//     connection a grant, forfeit) gets parameters of its own, a part of the policies
//     is drawn like it.
//
// # How it works
//
// A plan is a random policy. Under each one, several dozen scenarios go on at
// once, each from addresses of its own: knocks, deviations from them, repeats,
// and pauses that end clearly before a deadline or clearly after it. What the
// kernel has let in shows on raw sockets behind its rules. Afterwards each
// scenario is judged by the reference, with the times at which its packets were
// really sent, and with what Backend.Inspect said at some moments in between.
//
// No kernel forgets to the millisecond. A scenario in which a packet came so near
// to a deadline that it cannot be said on which side is left out from there on;
// the run fails when these are more than a few. A run whose packets met with too
// little of what a machine can do goes on for a while, and fails if that is no help.
//
// A difference is made smaller by playing parts of it alone, and then printed:
// the policy, the packets, the reference's rule for each, and what the kernel did.
//
// # Repeating it
//
// The flags -seed and -packets choose another run or a longer one; POSTERN_SEED
// stands for the first. The same seed draws the same policies and packets. Where
// several worlds are tried at once the seeds after it are theirs, and a difference
// names the one that shows it.
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
	packetsFlag = flag.Int("packets", 0, "how many packets the conformance suite sends, at the least; 0: as many as take about a minute")
	seedFlag    = flag.Uint64("seed", 0, "what the conformance suite draws its packets by; 0: another one each time, or POSTERN_SEED")
)

// maxUnsure is the share of scenarios that noise may make useless. Their packets
// are not counted, so that a busy machine sends more of them, not fewer that count.
const maxUnsure = 0.3

// maxOnce is the number of packets among which one difference may be a moment at
// which the machine stood still, and not the backend's. It must not come again,
// neither alone nor among the same packets.
const maxOnce = 50000

// longest is how many times its length a run may grow to until its packets have met
// with enough. Some forty policies are in a run, and what they happen to draw
// decides how often a rare thing, such as a loop, can happen at all.
const longest = 3

// least is the share of random policies that a backend must be able to express.
const least = 0.5

// Run holds a backend to the reference.
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
	first := seed(t)
	t.Logf("seed %d", first)
	// Each world has a seed of its own, which shows alone what it has found.
	searches := make([]*search, subject.worlds)
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
		if len(total.missing()) == 0 || length >= longest*packets {
			total.judge(t, packets)
			return
		}
	}
}

// run tries policies until so many packets have been sent, or a test fails.
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
		s.counts.once++
	}
}

// judge tells whether a run of so many packets proves anything.
func (c *counts) judge(t *testing.T, packets int) {
	t.Helper()
	t.Log(c)
	if c.once > packets/maxOnce {
		t.Errorf("%d differences did not come again: see the log", c.once)
	}
	for _, m := range c.missing() {
		t.Error(m)
	}
	if float64(c.unsure) > maxUnsure*float64(c.scenarios) {
		t.Errorf("%d of %d scenarios came too near to a deadline: the machine is too busy for timing", c.unsure, c.scenarios)
	}
	if float64(c.policies) < least*float64(c.drawn) {
		t.Errorf("the backend can express %d of %d random policies, which are too few to prove anything", c.policies, c.drawn)
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

// Machines gives n Exact machines of random policies, such as Run uses: for what
// else a backend must do with any policy.
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
