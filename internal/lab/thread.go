//go:build linux

package lab

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// A thread is an operating system thread that calls functions for others. It
// lives until it is stopped.
type thread struct {
	work chan func()
	quit chan struct{}
}

func newThread() *thread {
	t := &thread{make(chan func()), make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-t.work:
				f()
			case <-t.quit:
				return
			}
		}
	}()
	return t
}

// call calls f on the thread and waits for it.
func (t *thread) call(f func() error) error {
	done := make(chan error)
	select {
	case t.work <- func() { done <- f() }:
		return <-done
	case <-t.quit:
		return ErrClosed
	}
}

// stop ends the thread after the call that it is at. It must not be called
// twice.
func (t *thread) stop() { close(t.quit) }

// OnCPU calls f on one CPU. Packets that f sends go all the way on it: through
// the link, the other end's rules, and back to a capture.
func OnCPU(cpu int, f func() error) (err error) {
	runtime.LockOSThread()
	var before, only unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	only.Set(cpu)
	if err := unix.SchedSetaffinity(0, &only); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("lab: run on CPU %d: %w", cpu, err)
	}
	defer func() {
		// As after Do, a thread that cannot be set back is given up.
		if back := unix.SchedSetaffinity(0, &before); back != nil {
			err = errors.Join(err, back)
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}
