package nftables

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// The classic recipe's door.
var howtoKnocks = []policy.Port{labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(3456)}

// howto reads the recipe's policy as users get it.
func howto(t *testing.T) *automaton.Machine {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "examples", "howto.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return labtest.Compile(t, Backend{}, string(data))
}

// path is how far a source has come.
func (s *scene) path(m *automaton.Machine, src netip.Addr) []policy.Port {
	for _, p := range s.Inspect().Progress {
		if p.Source == src && p.Left > 0 {
			return m.State(p.State).Path
		}
	}
	return nil
}

func (s *scene) granted(src netip.Addr) int {
	n := 0
	for _, g := range s.Inspect().Grants {
		if g.Source == src && g.Left > 0 {
			n++
		}
	}
	return n
}

// TestRecipe goes through the recipe's mechanism, letter by letter.
func TestRecipe(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := howto(t)
	s.Apply(m)
	accepted := labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.Greet(t, s.Gateway, 8080, "something else")
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		t.Run("a: what matches nothing is dropped", func(t *testing.T) {
			for _, port := range []policy.Port{labtest.TCP(22), labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(3456), labtest.TCP(8080), labtest.TCP(9), labtest.TCP(65535), labtest.UDP(22), labtest.UDP(9), labtest.Echo} {
				s.Expect(t, s.NewAddress(f), port, labtest.Silence, "another address")
			}
		})
		t.Run("b to d: each knock leads one step on, and is dropped", func(t *testing.T) {
			src := s.NewAddress(f)
			for i, port := range howtoKnocks {
				s.Expect(t, src, port, labtest.Silence, "a knock")
				want := howtoKnocks[:i+1]
				if i == len(howtoKnocks)-1 {
					want = nil // the grant is there instead
				}
				if got := s.path(m, src); !slices.Equal(got, want) {
					t.Errorf("after %v the source has come to %v, want %v", howtoKnocks[:i+1], got, want)
				}
			}
			if got := s.granted(src); got != 1 {
				t.Errorf("after the knocks the source holds %d grants, want 1", got)
			}
		})
		t.Run("e: the service opens, once", func(t *testing.T) {
			src, other := s.NewAddress(f), s.NewAddress(f)
			s.Knock(src, howtoKnocks...)
			s.Expect(t, other, labtest.TCP(22), labtest.Silence, "another client")
			s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a second connection")
		})
		t.Run("e: a real connection lives on, and another needs its own knocks", func(t *testing.T) {
			src, at := labtest.On(s.Outside, f), netip.AddrPortFrom(labtest.On(s.Gate, f), 22)
			s.Knock(src, howtoKnocks...)
			first := s.Dial(t, s.Client, at, "ssh")
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a second connection")
			s.Knock(src, howtoKnocks...)
			second := s.Dial(t, s.Client, at, "ssh")
			s.Knock(src, labtest.TCP(9), labtest.TCP(1234), labtest.UDP(7))
			for i, c := range []*labtest.Session{first, second} {
				if err := c.Talk(); err != nil {
					t.Errorf("connection %d: %v", i+1, err)
				}
			}
		})
		t.Run("e: not before all knocks", func(t *testing.T) {
			for n := range howtoKnocks {
				src := s.NewAddress(f)
				s.Knock(src, howtoKnocks[:n]...)
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, fmt.Sprint(n, " knocks"))
			}
		})
		t.Run("f: anything unexpected sends back to the start", func(t *testing.T) {
			for n := 1; n <= len(howtoKnocks); n++ {
				for _, stray := range []policy.Port{labtest.TCP(9), labtest.TCP(8080), labtest.TCP(3457), labtest.UDP(9), labtest.UDP(2345), labtest.Echo} {
					src := s.NewAddress(f)
					s.Knock(src, howtoKnocks[:n]...)
					s.Knock(src, stray)
					s.Knock(src, howtoKnocks[n:]...)
					s.Expect(t, src, labtest.TCP(22), labtest.Silence, fmt.Sprintf("%s after %d knocks", stray, n))
				}
			}
		})
		t.Run("f: the first knock begins anew wherever it comes", func(t *testing.T) {
			for n := 1; n < len(howtoKnocks); n++ {
				src := s.NewAddress(f)
				s.Knock(src, howtoKnocks[:n]...)
				s.Knock(src, howtoKnocks...)
				s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, fmt.Sprintf("all knocks after %d", n))
			}
		})
		t.Run("f: asking for the service too early is unexpected", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(1234), labtest.TCP(2345), labtest.TCP(22), labtest.TCP(3456))
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "the service between the knocks")
		})
		t.Run("other orders", func(t *testing.T) {
			a, b, c := howtoKnocks[0], howtoKnocks[1], howtoKnocks[2]
			for _, order := range [][]policy.Port{
				{a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}, {a, b}, {b, c}, {a, c}, {a, b, b, c}, {a, b, a, c},
				{a, a, c}, {labtest.UDP(1234), labtest.UDP(2345), labtest.UDP(3456)},
			} {
				src := s.NewAddress(f)
				s.Knock(src, order...)
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, fmt.Sprint(order))
			}
		})
		t.Run("several clients at once", func(t *testing.T) {
			clients := make([]netip.Addr, 20)
			for i := range clients {
				clients[i] = s.NewAddress(f)
			}
			for step := range howtoKnocks {
				for i, src := range clients {
					if i%5 == 4 && step == 1 {
						s.Knock(src, labtest.TCP(9)) // some go wrong
						continue
					}
					s.Knock(src, howtoKnocks[step])
				}
			}
			for i, src := range clients {
				want := labtest.SYNACK
				if i%5 == 4 {
					want = labtest.Silence
				}
				s.Expect(t, src, labtest.TCP(22), want, fmt.Sprint("client ", i))
			}
		})
	})
	if got := accepted.Accepted.Load(); got != 4 {
		t.Errorf("the service accepted %d connections, want the 4 that were dialed", got)
	}
}

// TestRecipeTimes waits the recipe's own times out: 3 s between knocks and 10 s
// for the connection, a second away from the limit on either side.
func TestRecipeTimes(t *testing.T) {
	t.Parallel()
	const step, open = 3 * time.Second, 10 * time.Second
	early := func(d time.Duration) time.Duration { return d - time.Second }
	late := func(d time.Duration) time.Duration { return d + 100*time.Millisecond }
	for _, c := range []struct {
		name   string
		pauses [3]time.Duration // after each knock
		want   labtest.Answer
	}{
		{"just in time", [3]time.Duration{early(step), early(step), early(open)}, labtest.SYNACK},
		{"late second knock", [3]time.Duration{late(step), 0, 0}, labtest.Silence},
		{"late third knock", [3]time.Duration{0, late(step), 0}, labtest.Silence},
		{"late connection", [3]time.Duration{0, 0, late(open)}, labtest.Silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.Apply(howto(t))
			labtest.Greet(t, s.Gateway, 22, "ssh")
			limits := [3]time.Duration{step, step, open}
			for range 5 {
				sources := []netip.Addr{s.NewAddress(labtest.IPv4), s.NewAddress(labtest.IPv6)}
				slow := false
				for i, pause := range c.pauses {
					start := time.Now()
					for _, src := range sources {
						s.Knock(src, howtoKnocks[i])
					}
					s.Settled() // a pause begins when the knock has arrived
					time.Sleep(pause)
					slow = slow || time.Since(start) > limits[i]-200*time.Millisecond
				}
				if slow && c.want == labtest.SYNACK {
					continue // this machine was busy elsewhere: it proves nothing
				}
				for _, src := range sources {
					s.Expect(t, src, labtest.TCP(22), c.want, c.name)
				}
				return
			}
			t.Error("this machine is too slow to be in time")
		})
	}
}
