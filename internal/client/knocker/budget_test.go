package knocker

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A countingServer is the server's side of a budget: packets that come at once, and
// packets a second.
type countingServer struct {
	left float64
	last time.Time
}

func (s *countingServer) counts(at time.Time) bool {
	if at.Before(s.last) {
		at = s.last // none overtakes another
	}
	s.left = min(s.left+at.Sub(s.last).Seconds()*10, 20)
	s.last = at
	if s.left < 1 {
		return false
	}
	s.left--
	return true
}

// TestBudget sends as fast as the budget lets it, through a network with jitter, and
// each packet counts.
func TestBudget(t *testing.T) {
	const jitter = 90 * time.Millisecond
	for _, test := range []struct {
		name          string
		rounds, knock int
		failing       bool
		want          time.Duration // the most that it takes
	}{
		{"one round", 1, 3, false, 0},
		{"all of the budget", 1, 20, false, 0},
		{"more", 1, 32, false, 1300 * time.Millisecond},
		{"many openings", 45, 3, false, 11600 * time.Millisecond},
		{"in vain", 12, 3, true, 2900 * time.Millisecond},
	} {
		now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		begun := now
		server := countingServer{20, now}
		var b budget
		packet := 0
		send := func() {
			late := jitter // every second packet is late, the next is not
			if packet++; packet%2 == 0 {
				late = 0
			}
			if !server.counts(now.Add(late)) {
				t.Errorf("%s: packet %d does not count", test.name, packet)
			}
			b.spend(now, 1)
		}
		for range test.rounds {
			first := min(test.knock, 20)
			now = now.Add(b.wait(now, first))
			for i := range test.knock {
				if i >= first {
					now = now.Add(b.wait(now, 1))
				}
				send()
			}
			if test.failing {
				send()
			}
		}
		if took := now.Sub(begun); took > test.want {
			t.Errorf("%s: took %v, more than %v", test.name, took, test.want)
		}
	}
}

// TestBudgetClock: a clock that is set back does not stop a client for long.
func TestBudgetClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	b := budget{now.Add(time.Hour)}
	if got := b.wait(now, 1); got > 300*time.Millisecond {
		t.Errorf("waits %v for one packet", got)
	}
	b.spend(now, 1)
	if got := b.wait(now, 20); got > 3*time.Second {
		t.Errorf("waits %v for all of it", got)
	}
	b = budget{}
	b.spendSYN(now, 1200*time.Millisecond) // sent again after 500 and 1000
	if got := b.whole.Sub(now); got != 3*each {
		t.Errorf("a connection in vain took %v of the budget", got)
	}
}

// TestBudgetIsShared keeps it from one turn to the next.
func TestBudgetIsShared(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", folder)
	t.Setenv("HOME", folder)
	a := netip.MustParseAddr("192.0.2.1")
	first, err := takeTurn(t.Context(), a, budget{})
	if err != nil {
		t.Fatal(err)
	}
	first.budget.spend(time.Now(), 20)
	want := first.budget.whole
	first.end()
	for _, damage := range []bool{false, true} {
		second, err := takeTurn(t.Context(), a, budget{})
		if err != nil {
			t.Fatal(err)
		}
		if damage {
			want = time.Time{}
		}
		if !second.budget.whole.Equal(want) {
			t.Errorf("%v is remembered, not %v", second.budget.whole, want)
		}
		path := second.file(budgetSuffix)
		second.end()
		if filepath.Dir(path) != filepath.Dir(second.lock.Path()) {
			t.Errorf("it is not beside the lock: %s", path)
		}
		if err := os.WriteFile(path, []byte("three bananas"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Where no file can be made, what this process knows is all there is.
	t.Setenv("XDG_CACHE_HOME", filepath.Join(folder, "postern", a.String()+lockSuffix))
	t.Setenv("HOME", os.DevNull)
	known := budget{time.Now().Add(time.Second)}
	third, err := takeTurn(t.Context(), a, known)
	if err != nil || third.budget != known {
		t.Errorf("%+v, %v; want %+v", third, err, known)
	}
}
