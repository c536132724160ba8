package bpf

import (
	"flag"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

var rounds = flag.Int("rounds", 5_000, "how often two CPUs get the same token at the same moment")

// TestRace gives the same token to two CPUs at the same moment. One of them wins.
func TestRace(t *testing.T) {
	won := race(newScene(t, nil, nil), *rounds)
	t.Logf("of %d rounds none, one or both won: %v", *rounds, won)
	if won[1] != *rounds {
		t.Errorf("in %d of %d rounds none won, in %d both", won[0], *rounds, won[2])
	}
}

// race returns in how many rounds how many CPUs have accepted the token.
func race(s *scene, rounds int) (won [3]int) {
	const batch = 1000
	for done := 0; done < rounds; done += batch {
		n := min(batch, rounds-done)
		frames := make([][]byte, n)
		for i := range frames {
			token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			frames[i] = frame(s.t, datagram.packet(sender4, token[:]))
		}
		accepted := make([]atomic.Int32, n)
		atOnce(s.t, n, func(_, i int) error {
			v, err := s.program.run(frames[i], 0)
			if v.priority != 0 {
				accepted[i].Add(1)
			}
			return err
		})
		for i := range accepted {
			won[accepted[i].Load()]++
		}
	}
	return won
}

// atOnce calls a function n times, each time on two CPUs at the same moment.
func atOnce(t testing.TB, n int, f func(me, round int) error) {
	cpus := labtest.CPUs(t)
	if len(cpus) < 2 {
		t.Skip("there is only one CPU")
	}
	var at [2]atomic.Int64
	var all sync.WaitGroup
	for me := range at {
		all.Go(func() {
			err := lab.OnCPU(cpus[me], func() error {
				for i := range n {
					at[me].Store(int64(i + 1))
					for spins := 0; at[1-me].Load() < int64(i+1); spins++ {
						if spins > 10_000 { // something else has the other CPU
							unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
						}
					}
					if err := f(me, i); err != nil {
						at[me].Store(int64(n + 1)) // the other one need not wait
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// TestEarlyRace: of two sources that two CPUs remember at the same moment, in the same place,
// none is lost.
func TestEarlyRace(t *testing.T) {
	if lost := meet(newEarlyScene(t, nil, remembersUDP), *rounds); lost > 0 {
		t.Errorf("in %d rounds %d sources were lost", *rounds, lost)
	}
}

// meet sends packets of two sources at a time that have the same places, and returns how many
// are not remembered afterwards.
func meet(s *earlyScene, rounds int) (lost int) {
	s.change(func(v *earlyValue) { v.Source4 = maskOf(128) })
	seed := key.SipKey{1, 2} // newEarlyScene's
	groups := uint64(s.program.maps[mapRecent].MaxEntries())
	rounds = min(rounds, int(groups/2))
	type source struct {
		group, name uint64
		frame       []byte
	}
	var pairs [][2]source
	waiting := map[uint64]source{} // for another one of the same group
	for n := uint32(0); len(pairs) < rounds; n++ {
		from := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		b := from.As16()
		hash := sipHash(seed, b[:], 0)
		me := source{hash % groups, max(hash>>44, 1), frame(s.t, datagram.packet(from, nil))}
		other, ok := waiting[me.group]
		if !ok {
			waiting[me.group] = me
		} else if other.frame != nil && other.name != me.name {
			pairs = append(pairs, [2]source{other, me})
			waiting[me.group] = source{} // the group is taken
		}
	}
	atOnce(s.t, rounds, func(me, i int) error {
		_, err := s.program.run(pairs[i][me].frame, 0)
		return err
	})
	all, err := readMap[uint32, [choice]uint64](s.program.maps[mapRecent])
	if err != nil {
		s.t.Fatal(err)
	}
	shared := 0
	for _, pair := range pairs {
		names := map[uint64]bool{}
		for _, entry := range all[uint32(pair[0].group)] {
			if entry != 0 {
				names[entry>>44] = true
			}
		}
		if names[0] {
			shared++
			continue
		}
		for _, source := range pair {
			if !names[source.name] {
				lost++
			}
		}
	}
	s.t.Logf("%d of %d pairs met in one place", shared, rounds)
	return lost
}
