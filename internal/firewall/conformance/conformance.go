// Package conformance holds a firewall backend to the reference automaton: it
// sends random packets through a real kernel that the backend has set up, and
// compares what becomes of each with what the reference says.
//
// A backend joins with one line in a test of its own package, whose TestMain
// calls lab.Main:
//
//	func TestConformance(t *testing.T) { conformance.Run(t, nftables.Backend{}) }
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
// the run fails when these are more than a few, and when the packets met with
// too little of what a machine can do.
//
// A difference is made smaller by playing parts of it alone, and then printed:
// the policy, the packets, the reference's rule for each, and what the kernel did.
//
// # Repeating it
//
// The flags -seed and -packets choose another run or a longer one; POSTERN_SEED
// stands for the first. The same seed draws the same policies and packets.
package conformance

import (
	"flag"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

var (
	packetsFlag = flag.Int("packets", 20000, "how many packets the conformance suite sends, at the least")
	seedFlag    = flag.Uint64("seed", 0, "what the conformance suite draws its packets by; 0: another one each time, or POSTERN_SEED")
)

// maxUnsure is the share of scenarios that noise may make useless. Their packets
// are not counted, so that a busy machine sends more of them, not fewer that count.
const maxUnsure = 0.3

// maxOnce is the number of packets among which one difference may be a moment at
// which the machine stood still, and not the backend's. It must not come again,
// neither alone nor among the same packets.
const maxOnce = 50000

// Run holds a backend to the reference.
func Run(t *testing.T, b firewall.Backend) {
	t.Helper()
	s := &search{backend: b, seed: seed(t)}
	t.Logf("seed %d", s.seed)
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	once := 0 // differences that did not come again
	for s.counts.packets < *packetsFlag {
		f, err := s.round()
		if err != nil {
			t.Fatalf("seed %d, policy %d: %v", s.seed, s.rounds-1, err)
		}
		if f == nil {
			continue
		}
		if f, err = s.confirm(f); err != nil {
			t.Error(err)
		}
		if f.alone || f.again {
			t.Fatal(f)
		}
		t.Log(f)
		once++
	}
	if once > *packetsFlag/maxOnce {
		t.Errorf("%d differences did not come again: see the log", once)
	}
	t.Log(&s.counts)
	for _, m := range s.counts.missing() {
		t.Error(m)
	}
	if n := s.counts.unsure; float64(n) > maxUnsure*float64(s.counts.scenarios) {
		t.Errorf("%d of %d scenarios came too near to a deadline: the machine is too busy for timing", n, s.counts.scenarios)
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

// Machines gives n machines of random policies, such as Run uses: for what else
// a backend must do with any policy.
func Machines(seed uint64, n int) ([]*automaton.Machine, error) {
	var all []*automaton.Machine
	for i := range n {
		_, m, err := drawMachine(rand.New(rand.NewPCG(seed, uint64(i))), []block{0, 1, 2, 3})
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}
