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
	"postern/internal/policy"
)

// The classic recipe's door.
var howtoKnocks = []policy.Port{tcp(1234), tcp(2345), tcp(3456)}

// howto reads the recipe's policy as users get it.
func howto(t *testing.T) *automaton.Machine {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "examples", "howto.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return compileText(t, string(data))
}

// path is how far a source has come.
func (s *scene) path(m *automaton.Machine, src netip.Addr) []policy.Port {
	for _, p := range s.inspect().Progress {
		if p.Source == src && p.Left > 0 {
			return m.State(p.State).Path
		}
	}
	return nil
}

func (s *scene) granted(src netip.Addr) int {
	n := 0
	for _, g := range s.inspect().Grants {
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
	s.apply(m)
	accepted := serve(t, s.gw, 22, "ssh")
	serve(t, s.gw, 8080, "something else")
	each(t, func(t *testing.T, f family) {
		t.Run("a: what matches nothing is dropped", func(t *testing.T) {
			for _, port := range []policy.Port{tcp(22), tcp(1234), tcp(2345), tcp(3456), tcp(8080), tcp(9), tcp(65535), udp(22), udp(9), echo} {
				s.expect(t, s.stranger(f), port, silence, "a stranger")
			}
		})
		t.Run("b to d: each knock leads one step on, and is dropped", func(t *testing.T) {
			src := s.stranger(f)
			for i, port := range howtoKnocks {
				s.expect(t, src, port, silence, "a knock")
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
			src, other := s.stranger(f), s.stranger(f)
			s.knock(src, howtoKnocks...)
			s.expect(t, other, tcp(22), silence, "somebody else")
			s.expect(t, src, tcp(22), welcomed, "after the knocks")
			s.expect(t, src, tcp(22), silence, "a second connection")
		})
		t.Run("e: a real connection lives on, and another needs its own knocks", func(t *testing.T) {
			src, at := on(s.outside, f), netip.AddrPortFrom(on(s.gate, f), 22)
			s.knock(src, howtoKnocks...)
			first := s.dial(t, s.client, at, "ssh")
			s.expect(t, src, tcp(22), silence, "a second connection")
			s.knock(src, howtoKnocks...)
			second := s.dial(t, s.client, at, "ssh")
			s.knock(src, tcp(9), tcp(1234), udp(7))
			for i, c := range []*session{first, second} {
				if err := c.talk(); err != nil {
					t.Errorf("connection %d: %v", i+1, err)
				}
			}
		})
		t.Run("e: not before all knocks", func(t *testing.T) {
			for n := range howtoKnocks {
				src := s.stranger(f)
				s.knock(src, howtoKnocks[:n]...)
				s.expect(t, src, tcp(22), silence, fmt.Sprint(n, " knocks"))
			}
		})
		t.Run("f: anything unexpected sends back to the start", func(t *testing.T) {
			for n := 1; n <= len(howtoKnocks); n++ {
				for _, stray := range []policy.Port{tcp(9), tcp(8080), tcp(3457), udp(9), udp(2345), echo} {
					src := s.stranger(f)
					s.knock(src, howtoKnocks[:n]...)
					s.knock(src, stray)
					s.knock(src, howtoKnocks[n:]...)
					s.expect(t, src, tcp(22), silence, fmt.Sprintf("%s after %d knocks", stray, n))
				}
			}
		})
		t.Run("f: the first knock begins anew wherever it comes", func(t *testing.T) {
			for n := 1; n < len(howtoKnocks); n++ {
				src := s.stranger(f)
				s.knock(src, howtoKnocks[:n]...)
				s.knock(src, howtoKnocks...)
				s.expect(t, src, tcp(22), welcomed, fmt.Sprintf("all knocks after %d", n))
			}
		})
		t.Run("f: asking for the service too early is unexpected", func(t *testing.T) {
			src := s.stranger(f)
			s.knock(src, tcp(1234), tcp(2345), tcp(22), tcp(3456))
			s.expect(t, src, tcp(22), silence, "the service between the knocks")
		})
		t.Run("other orders", func(t *testing.T) {
			a, b, c := howtoKnocks[0], howtoKnocks[1], howtoKnocks[2]
			for _, order := range [][]policy.Port{
				{a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}, {a, b}, {b, c}, {a, c}, {a, b, b, c}, {a, b, a, c},
				{a, a, c}, {udp(1234), udp(2345), udp(3456)},
			} {
				src := s.stranger(f)
				s.knock(src, order...)
				s.expect(t, src, tcp(22), silence, fmt.Sprint(order))
			}
		})
		t.Run("several clients at once", func(t *testing.T) {
			clients := make([]netip.Addr, 20)
			for i := range clients {
				clients[i] = s.stranger(f)
			}
			for step := range howtoKnocks {
				for i, src := range clients {
					if i%5 == 4 && step == 1 {
						s.knock(src, tcp(9)) // some go wrong
						continue
					}
					s.knock(src, howtoKnocks[step])
				}
			}
			for i, src := range clients {
				want := welcomed
				if i%5 == 4 {
					want = silence
				}
				s.expect(t, src, tcp(22), want, fmt.Sprint("client ", i))
			}
		})
	})
	if got := accepted.Load(); got != 4 {
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
		want   answer
	}{
		{"just in time", [3]time.Duration{early(step), early(step), early(open)}, welcomed},
		{"late second knock", [3]time.Duration{late(step), 0, 0}, silence},
		{"late third knock", [3]time.Duration{0, late(step), 0}, silence},
		{"late connection", [3]time.Duration{0, 0, late(open)}, silence},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.apply(howto(t))
			serve(t, s.gw, 22, "ssh")
			limits := [3]time.Duration{step, step, open}
			for range 5 {
				sources := []netip.Addr{s.stranger(ipv4), s.stranger(ipv6)}
				slow := false
				for i, pause := range c.pauses {
					start := time.Now()
					for _, src := range sources {
						s.knock(src, howtoKnocks[i])
					}
					s.settle() // a pause begins when the knock has arrived
					time.Sleep(pause)
					slow = slow || time.Since(start) > limits[i]-200*time.Millisecond
				}
				if slow && c.want == welcomed {
					continue // this machine was busy elsewhere: it proves nothing
				}
				for _, src := range sources {
					s.expect(t, src, tcp(22), c.want, c.name)
				}
				return
			}
			t.Error("this machine is too slow to be in time")
		})
	}
}
