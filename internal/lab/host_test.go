//go:build linux

package lab_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
)

// here returns the namespace of the calling thread.
func here(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// Do is on the host, may be nested, and comes back however its function ends.
func TestDo(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	runtime.LockOSThread() // to see that this very thread comes back
	defer runtime.UnlockOSThread()
	home := here(t)
	back := func(after string) {
		t.Helper()
		if now := here(t); now != home {
			t.Fatalf("after %s the thread is in %s, not in %s", after, now, home)
		}
	}

	failed := errors.New("failed")
	err := a.Do(func() error {
		if here(t) != namespaceOf(a) {
			t.Error("not on host a")
		}
		elsewhere := make(chan string)
		go func() { elsewhere <- here(t) }()
		if <-elsewhere == namespaceOf(a) {
			t.Error("a goroutine that was started there is on host a, against what Do says")
		}
		b.Do(func() error {
			if here(t) != namespaceOf(b) {
				t.Error("not on host b")
			}
			return nil
		})
		if here(t) != namespaceOf(a) {
			t.Error("not back on host a")
		}
		return failed
	})
	if !errors.Is(err, failed) {
		t.Errorf("got %v, want the function's own error", err)
	}
	back("an error")

	func() {
		defer func() { recover() }()
		a.Do(func() error { panic("as ordered") })
	}()
	back("a panic")

	gone := make(chan bool)
	go func() {
		defer close(gone)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		home := here(t)
		defer func() {
			if here(t) != home {
				t.Error("a goroutine that has ended in Do was not brought back")
			}
		}()
		a.Do(func() error { runtime.Goexit(); return nil })
	}()
	<-gone
}

// The first step that fails is kept, and says what was asked for.
func TestFailedStep(t *testing.T) {
	for _, test := range []struct {
		build func(l *lab.Lab, h *lab.Host)
		want  string
	}{
		{func(l *lab.Lab, h *lab.Host) { l.Host("h") }, `host "h": there is already one`},
		{func(l *lab.Lab, h *lab.Host) { l.Host("Gate Way") }, `host "Gate Way": a name is`},
		{func(l *lab.Lab, h *lab.Host) { l.Host("lo") }, `host "lo": the kernel uses`},
		{func(l *lab.Lab, h *lab.Host) { h.Sysctl("kernel.hostname", "x") }, "only settings below net."},
		{func(l *lab.Lab, h *lab.Host) { h.Sysctl("net/../kernel/hostname", "x") }, "only settings below net."},
		{func(l *lab.Lab, h *lab.Host) { h.Sysctl("net.ipv4.nonsense", "1") }, "sysctl net.ipv4.nonsense=1: "},
		{func(l *lab.Lab, h *lab.Host) { l.Connect(h, h) }, `needs two hosts`},
		{func(l *lab.Lab, h *lab.Host) { l.Connect(h, l.Host("i"), "192.0.2.1") }, `"192.0.2.1"`},
		{func(l *lab.Lab, h *lab.Host) { l.Connect(h, l.Host("i"), "192.0.2.7/32") }, `"192.0.2.7/32" has no room`},
		{func(l *lab.Lab, h *lab.Host) { h.Route("192.0.2.0/33", netip.MustParseAddr("192.0.2.1")) }, "192.0.2.0/33"},
	} {
		l := lab.New()
		defer l.Close()
		h := l.Host("h")
		test.build(l, h)
		err := l.Err()
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want it to say %s", err, test.want)
		}
		// Nothing can be done with what is not finished.
		l.Host("later")
		if l.Err() != err || h.Do(func() error { return nil }) != err {
			t.Errorf("the error was replaced: %v", l.Err())
		}
	}
}

// fake is a test that fails.
type fake struct {
	failed   string
	cleanups []func()
}

func (f *fake) Helper()                      {}
func (f *fake) Cleanup(c func())             { f.cleanups = append(f.cleanups, c) }
func (f *fake) Fatalf(s string, args ...any) { f.failed = fmt.Sprintf(s, args...); runtime.Goexit() }

// A failed step ends the test at once, and the lab is closed all the same.
func TestFailedTest(t *testing.T) {
	var f fake
	var h *lab.Host
	done := make(chan bool)
	go func() {
		defer close(done)
		l := lab.NewT(&f)
		h = l.Host("h")
		l.Host("h")
		t.Error("the test went on")
	}()
	<-done
	if !strings.Contains(f.failed, `host "h"`) {
		t.Errorf("failed with %q", f.failed)
	}
	for _, c := range f.cleanups {
		c()
	}
	if err := h.Do(func() error { return nil }); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("after the test: %v, want %v", err, lab.ErrClosed)
	}
}

// A host that is removed takes its cables along, and another one can have its name.
func TestRemove(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	for range 3 {
		l.Connect(a, b, net4, net6)
		if err := l.Settle(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.Remove(), b.Remove()); err != nil {
			t.Fatal(err)
		}
		if err := b.Do(func() error { return nil }); err == nil {
			t.Error("the host is still there")
		}
		links, err := a.Command(t.Context(), "ip", "-br", "link").CombinedOutput()
		if err != nil || strings.Contains(string(links), "b@") {
			t.Errorf("%v: the cable is still there:\n%s", err, links)
		}
		b = l.Host("b")
	}
	_, atB := l.Connect(a, b, net4, net6)
	atB.StaticNeighbours()
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) { labtest.PingPong(t, a, b, "tcp", addr(atB)) })
}
