package change

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// place returns an empty place.
func place(t *testing.T) *Place {
	t.Helper()
	t.Setenv("STATE_DIRECTORY", filepath.Join(t.TempDir(), "state"))
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(t.TempDir(), "run"))
	return Here()
}

func begin(t *testing.T, p *Place) *Change {
	t.Helper()
	c, err := p.Begin(t.Context(), func(holder int) { t.Errorf("waits for process %d", holder) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestKeep: what one change keeps the next one reads, until it is forgotten; and
// nobody else can read it.
func TestKeep(t *testing.T) {
	p := place(t)
	c := begin(t, p)
	if c.Saved != nil || c.Pending != nil || c.Missing() != nil {
		t.Fatalf("at first: %+v, missing %v", c.State, c.Missing())
	}
	want := Saved{Loaded: true, Backend: "nftables", RuleSet: "1", File: "p.yaml", Policy: "version: 1\n"}
	if err := c.Keep(want); err != nil {
		t.Fatal(err)
	}
	c.End()
	first := c.Saved.ID

	c = begin(t, p)
	got := *c.Saved
	if got.ID != first || first == "" {
		t.Errorf("the ID is %q, then %q", first, got.ID)
	}
	if got.ID = ""; got != want {
		t.Errorf("kept %+v, want %+v", got, want)
	}
	for _, file := range []string{p.savedFile(), p.lockFile()} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
		}
		if info, err := os.Stat(filepath.Dir(file)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: mode %v, %v", filepath.Dir(file), info.Mode(), err)
		}
	}
	if err := c.Keep(want); err != nil || c.Saved.ID == first {
		t.Errorf("kept again: %v, with the same ID: %v", err, c.Saved.ID == first)
	}
	if err := c.Forget(); err != nil {
		t.Fatal(err)
	}
	if err := c.Forget(); err != nil {
		t.Errorf("forgotten twice: %v", err)
	}
	c.End()
	if s, err := p.Read(); err != nil || s.Saved != nil {
		t.Errorf("when forgotten: %+v, %v", s.Saved, err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.state, ".*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestUnreadable: a file that makes no sense is an error beside a lock that works.
func TestUnreadable(t *testing.T) {
	p := place(t)
	begin(t, p).End()
	if err := os.WriteFile(p.savedFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := p.Begin(t.Context(), nil)
	if c == nil || err == nil || !strings.Contains(err.Error(), "loaded.json") {
		t.Fatalf("begins with %v, %v", c, err)
	}
	defer c.End()
	if err := c.Keep(Saved{Loaded: true}); err != nil {
		t.Error(err)
	}
	if s, err := p.Read(); err != nil || s.Saved == nil {
		t.Errorf("kept: %+v, %v", s.Saved, err)
	}
}

// TestVoid: a change waits beside the state that it was made from, and beside no other.
func TestVoid(t *testing.T) {
	p := place(t)
	c := begin(t, p)
	defer c.End()
	if err := c.Keep(Saved{Loaded: true, RuleSet: "1"}); err != nil {
		t.Fatal(err)
	}
	now := clock()
	pending := Pending{Former: c.Saved.ID, New: Saved{RuleSet: "2"}, Begun: now, Deadline: now + time.Minute}
	if err := write(p.pendingFile(), pending); err != nil {
		t.Fatal(err)
	}
	s, err := p.Read()
	if err != nil || s.Pending == nil || s.Wanted().RuleSet != "2" {
		t.Fatalf("read %+v, %v", s, err)
	}
	if left := s.Pending.Left(); left <= 50*time.Second || left > time.Minute {
		t.Errorf("%v are left of a minute", left)
	}
	if err := write(p.savedFile(), Saved{ID: "another", RuleSet: "3"}); err != nil { // as if killed before settle
		t.Fatal(err)
	}
	if s, err = p.Read(); err != nil || s.Pending != nil || s.Wanted().RuleSet != "3" {
		t.Errorf("beside another state: %+v, %v", s, err)
	}
	if pending.Begun += time.Hour; pending.Left() > 0 {
		t.Error("there is time left after a reboot")
	}
}

// TestWithdraw: rules that wait go on waiting, with their own deadline, if the way
// back of newer ones cannot be prepared.
func TestWithdraw(t *testing.T) {
	p := place(t)
	c := begin(t, p)
	defer c.End()
	if err := c.Keep(Saved{Loaded: true, RuleSet: "1"}); err != nil {
		t.Fatal(err)
	}
	now := clock()
	earlier := Pending{ID: "earlier", Former: c.Saved.ID, New: Saved{RuleSet: "2"}, Begun: now, Deadline: now + time.Minute}
	if err := write(p.pendingFile(), earlier); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.State, err = p.Read(); err != nil {
		t.Fatal(err)
	}
	noAgent := []string{"-test.run=^$"} // this program, which ends without being ready
	if err := c.Propose(Saved{RuleSet: "3"}, nil, time.Hour, noAgent); err == nil {
		t.Fatal("proposed without an agent")
	}
	s, err := p.Read()
	if err != nil || s.Pending == nil || *s.Pending != earlier || !earlier.Waits(c.State) {
		t.Errorf("afterwards waits %+v, %v", s.Pending, err)
	}
}

// TestRenew: the digest of the saved policy follows the rules that this version makes
// of it, but not while rules wait beside it.
func TestRenew(t *testing.T) {
	p := place(t)
	c := begin(t, p)
	defer c.End()
	if err := c.Keep(Saved{Loaded: true, RuleSet: "old", Policy: "p"}); err != nil {
		t.Fatal(err)
	}
	old := c.Saved
	if err := c.Renew(old, "new"); err != nil {
		t.Fatal(err)
	}
	s, err := p.Read()
	if err != nil || s.Saved.RuleSet != "new" || s.Saved.Policy != "p" {
		t.Errorf("renewed: %+v, %v", s.Saved, err)
	}
	// What waits is not what is saved, nor is what was saved before.
	for _, other := range []*Saved{{RuleSet: "2"}, old} {
		if err := c.Renew(other, "2"); err != nil || c.Saved.RuleSet != "new" {
			t.Errorf("renewed by other rules: %+v, %v", c.Saved, err)
		}
	}
	c.Pending = &Pending{}
	if err := c.Renew(c.Saved, "newer"); err != nil || c.Saved.RuleSet != "new" {
		t.Errorf("renewed beside rules that wait: %+v, %v", c.Saved, err)
	}
}

// TestLock: the second waits for the first, says so, and gives up when told to.
func TestLock(t *testing.T) {
	p := place(t)
	first := begin(t, p)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := p.Begin(ctx, func(holder int) {
		if holder != os.Getpid() {
			t.Errorf("waits for process %d, which is %d", holder, os.Getpid())
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	second := make(chan error)
	go func() {
		c, err := Here().Begin(t.Context(), func(int) { first.End() })
		if err == nil {
			c.End()
		}
		second <- err
	}()
	if err := <-second; err != nil {
		t.Error(err)
	}
	begin(t, p).End() // nobody has it by now, he who gave up neither
}

// TestHeld: one that holds the lock for too long is named.
func TestHeld(t *testing.T) {
	p := place(t)
	defer begin(t, p).End()
	_, err := p.Begin(t.Context(), func(int) {})
	var locked *LockedError
	if !errors.As(err, &locked) || locked.Holder != os.Getpid() {
		t.Errorf("got %v", err)
	}
}

// TestNowhere: without directories the lock is still one, and nothing is kept.
func TestNowhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STATE_DIRECTORY", filepath.Join(file, "state"))
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(file, "run"))
	c, err := Here().Begin(t.Context(), nil)
	if c == nil {
		t.Fatal(err)
	}
	if c.Missing() == nil {
		t.Error("the directories are there")
	}
	if err := errors.Join(c.Keep(Saved{}), c.Forget()); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Here().Begin(ctx, func(int) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one begins: %v", err)
	}
	c.End()
}
