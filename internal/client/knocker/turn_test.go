package knocker

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTurn(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", folder)
	t.Setenv("HOME", folder) // where the other systems look
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")
	first, err := takeTurn(t.Context(), a, budget{})
	if err != nil {
		t.Fatal(err)
	}
	if got := first.roundTrip(); got != 0 {
		t.Errorf("a round trip of %v is remembered from nowhere", got)
	}
	first.remember(83 * time.Millisecond)
	first.remember(7 * time.Millisecond)
	first.remember(time.Second) // may be the second SYN's
	if got := first.roundTrip(); got != 7*time.Millisecond {
		t.Errorf("remembers %v", got)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = takeTurn(ctx, a, budget{})
	if _, ok := errors.AsType[*TurnError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second turn at once: %v", err)
	}
	first.end()
	second, err := takeTurn(t.Context(), a, budget{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.end()
	if got := second.roundTrip(); got != 7*time.Millisecond {
		t.Errorf("remembers %v later", got)
	}
	other, err := takeTurn(t.Context(), b, budget{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.end()
	if got := other.roundTrip(); got != 0 {
		t.Errorf("remembers %v of another address", got)
	}
}

// TestTurnUnremembered: what is no round trip, and no file at all, is no reason
// to stop.
func TestTurnUnremembered(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", folder)
	a := netip.MustParseAddr("192.0.2.1")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func(what string) {
		t.Helper()
		held, err := takeTurn(t.Context(), a, budget{})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := held.roundTrip(); got != 0 {
			t.Errorf("%s: a round trip of %v", what, got)
		}
		held.remember(time.Millisecond)
		held.end()
	}
	if err := os.Mkdir(filepath.Join(folder, "postern"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(folder, "postern", a.String()), "three bananas")
	look("no round trip")
	if err := os.RemoveAll(filepath.Join(folder, "postern")); err != nil {
		t.Fatal(err)
	}
	write(filepath.Join(folder, "postern"), "")
	look("a file where the folder should be")
}

// TestPassage: how a token came through is known the next time; that one came through
// because it was not bound, for a day.
func TestPassage(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	a, now := netip.MustParseAddr("192.0.2.1"), time.Now()
	turn := noTurn(a, budget{})
	unbound := Passage{Echo, netip.MustParseAddr("2001:db8::7")}
	for _, step := range []struct{ keep, soon, later Passage }{
		{Passage{}, Passage{}, Passage{}},
		{unbound, unbound, Passage{Envelope: Echo}},
		{Passage{Envelope: SYNData}, Passage{Envelope: SYNData}, Passage{Envelope: SYNData}},
	} {
		turn.rememberPassage(turn.passage(now), step.keep)
		if soon, later := turn.passage(now), turn.passage(now.Add(unboundFor+time.Minute)); soon != step.soon || later != step.later {
			t.Errorf("%v: %v, and later %v", step.keep, soon, later)
		}
	}
}
