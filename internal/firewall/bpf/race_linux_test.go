package bpf

import (
	"flag"
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
	cpus := labtest.CPUs(s.t)
	if len(cpus) < 2 {
		s.t.Skip("there is only one CPU")
	}
	const batch = 1000
	for done := 0; done < rounds; done += batch {
		n := min(batch, rounds-done)
		frames := make([][]byte, n)
		for i := range frames {
			token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			frames[i] = frame(s.t, datagram.packet(sender4, token[:]))
		}
		accepted := make([]atomic.Int32, n)
		var at [2]atomic.Int64
		var all sync.WaitGroup
		for me := range at {
			all.Go(func() {
				err := lab.OnCPU(cpus[me], func() error {
					for i, b := range frames {
						at[me].Store(int64(i + 1))
						for spins := 0; at[1-me].Load() < int64(i+1); spins++ {
							if spins > 10_000 { // something else has the other CPU
								unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
							}
						}
						v, err := s.program.run(b, 0)
						if err != nil {
							at[me].Store(int64(n + 1)) // the other one need not wait
							return err
						}
						if v.priority != 0 {
							accepted[i].Add(1)
						}
					}
					return nil
				})
				if err != nil {
					s.t.Error(err)
				}
			})
		}
		all.Wait()
		for i := range accepted {
			won[accepted[i].Load()]++
		}
	}
	return won
}
