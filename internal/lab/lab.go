//go:build linux

package lab

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Lab is a set of hosts and what connects them. Its methods and those of its
// hosts and links may be called from several goroutines, unless they say
// otherwise.
type Lab struct {
	tb TB // nil outside tests

	mu       sync.Mutex
	err      error // the first failed step
	hosts    []*Host
	commands []*Cmd
	spawner  *thread // started by the first command
	closers  []func() error
	closed   bool
	cables   []*Link // both ends of each

	settling sync.Mutex // guards what follows; taken before mu
	markers  []*marker  // one for each of cables, as far as it goes
	marks    uint64     // how many rounds of markers have been sent
}

// TB is what NewT needs of a testing.TB.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// patience is how long the kernel may take for what it does in the background:
// far longer than it ever does.
const patience = 5 * time.Second

// ErrClosed is the error of everything that is asked of a closed Lab.
var ErrClosed = errors.New("lab: closed")

// New returns an empty lab. The caller must Close it, and ask Err after
// building the network.
func New() *Lab { return new(Lab) }

// NewT returns an empty lab for a test. A step that fails ends the test, so
// the steps must be taken by the test's own goroutine; the lab is closed when
// the test ends, and a failure to close fails the test.
func NewT(tb TB) *Lab {
	l := &Lab{tb: tb}
	tb.Cleanup(func() {
		tb.Helper()
		if err := l.Close(); err != nil {
			tb.Fatalf("%v", err)
		}
	})
	return l
}

// Err returns the error of the first step that failed.
func (l *Lab) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Step takes one step of building, unless an earlier one has failed. What it does
// must ask nothing of the lab, whose lock is held.
func (l *Lab) Step(what string, do func() error) {
	l.mu.Lock()
	if l.closed && l.err == nil {
		l.err = ErrClosed
	}
	if l.err == nil {
		if err := do(); err != nil {
			l.err = fmt.Errorf("lab: %s: %w", what, err)
		}
	}
	err := l.err
	l.mu.Unlock()
	if err != nil && l.tb != nil {
		l.tb.Helper()
		l.tb.Fatalf("%v", err)
	}
}

// usable returns why nothing can be asked of the lab any more.
func (l *Lab) usable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	return l.err
}

// OnClose has f called when the lab is closed, the last one first.
func (l *Lab) OnClose(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// Close kills what Command started, closes captures and senders, and lets go
// of the namespaces. The kernel takes a namespace down when its last socket is
// closed, too: close what Listen and Dial returned. Close may be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	commands, closers, hosts, spawner := l.commands, l.closers, l.hosts, l.spawner
	l.mu.Unlock()

	var errs []error
	for _, c := range commands {
		c.end()
	}
	if spawner != nil {
		spawner.stop()
	}
	for _, f := range slices.Backward(closers) {
		errs = append(errs, f())
	}
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab: close: %w", err)
	}
	return nil
}
