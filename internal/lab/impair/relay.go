//go:build linux

package impair

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// A Relay is what carries the packets of an impaired link from one end to the
// other. It ends with the lab.
type Relay struct {
	ports      [2]*port
	stop, wake *os.File // a pipe: stop is written to when it is time to end
	ended      chan error

	mu      sync.Mutex // guards what follows, and the ports
	looked  time.Time  // when it last began to read the rings
	packets [][]byte   // those that go out together
}

// A port is the relay's end of a cable to a host.
type port struct {
	way  *way // of the packets received here
	ring *lab.Ring
	out  *lab.Sender // to the host here
}

// Counts returns what has happened to the packets from the first and from the
// second host so far.
func (r *Relay) Counts() (fromA, fromB Counts) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ports[1] == nil {
		return // it was never built
	}
	return r.ports[0].counts(), r.ports[1].counts()
}

// Impair changes the impairment, for the packets that come from now on. Its Seed is
// for the first, second, third of those. The counts go on.
func (r *Relay) Impair(impairment Impairment) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := impairment.validate()
	if err == nil && r.ports[1] == nil {
		err = lab.ErrClosed // it was never built
	}
	if err != nil {
		return fmt.Errorf("lab: impair: %w", err)
	}
	for i, p := range r.ports {
		p.way.change(impairment, i)
	}
	return nil
}

func (p *port) counts() Counts {
	c := p.way.counts
	// Not an error after the ring is closed: then it is what was seen last.
	lost, _ := p.ring.Lost()
	c.Dropped += int(lost)
	return c
}

// start begins to carry packets between the hosts that the two links lead to.
func (r *Relay) start(l *lab.Lab, toA, toB *lab.Link, impairment Impairment) error {
	var err error
	if r.wake, r.stop, err = os.Pipe(); err != nil {
		return err
	}
	for i, k := range []*lab.Link{toA, toB} {
		p := &port{way: newWay(impairment, i)}
		if p.out, err = k.Sender(); err != nil { // closes itself with the lab
			return errors.Join(err, r.closeFiles())
		}
		if p.ring, err = k.Ring(); err != nil {
			return errors.Join(err, r.closeFiles())
		}
		r.ports[i] = p
	}
	r.looked, r.ended = time.Now(), make(chan error, 1)
	go func() { r.ended <- r.run() }()
	l.OnClose(func() error {
		_, err := r.stop.Write([]byte{0})
		return errors.Join(err, <-r.ended, r.closeFiles())
	})
	return nil
}

func (r *Relay) closeFiles() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	errs := []error{r.stop.Close(), r.wake.Close()}
	for _, p := range r.ports {
		if p != nil {
			p.ring.Lost() // the last count
			errs = append(errs, p.ring.File().Close(), p.ring.Close())
		}
	}
	return errors.Join(errs...)
}

// run carries packets until it is woken to end. It waits in the kernel and not
// by Go's timers: those are late by up to a millisecond when the process is
// idle, because the runtime waits in whole ones.
func (r *Relay) run() error {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	// Without this the kernel lets timers be late by 50 µs, to save wake-ups.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return err
	}
	fds := []unix.PollFd{
		{Fd: int32(r.wake.Fd()), Events: unix.POLLIN},
		{Fd: int32(r.ports[0].ring.File().Fd()), Events: unix.POLLIN},
		{Fd: int32(r.ports[1].ring.File().Fd()), Events: unix.POLLIN},
	}
	for {
		due, some, err := r.carry()
		if err != nil {
			return fmt.Errorf("relay: %w", err)
		}
		var timeout *unix.Timespec // for ever
		if some {
			t := unix.NsecToTimespec(max(0, time.Until(due).Nanoseconds()))
			timeout = &t
		}
		if _, err := unix.Ppoll(fds, timeout, nil); err != nil && err != unix.EINTR {
			return fmt.Errorf("relay: wait: %w", err)
		}
		if fds[0].Revents != 0 {
			return nil
		}
		for _, fd := range fds[1:] {
			if fd.Revents&^unix.POLLIN != 0 {
				return errors.New("relay: its own link is down")
			}
		}
	}
}

// carry takes what has come, sends what is due, and returns when something
// will be due next, if there is anything.
func (r *Relay) carry() (due time.Time, some bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begin := time.Now()
	for _, p := range r.ports {
		if err := r.receive(p); err != nil {
			return due, false, err
		}
	}
	r.looked = begin
	for i, p := range r.ports {
		if err := r.send(p.way, r.ports[1-i].out); err != nil {
			return due, false, err
		}
		if next, ok := p.way.next(); ok && (!some || next.Before(due)) {
			due, some = next, true
		}
	}
	return due, some, nil
}

// receive takes what has come to a port. The time that a packet takes begins
// when the kernel put it into the ring, however late the relay looks.
func (r *Relay) receive(p *port) error {
	return p.ring.Read(func(raw []byte, at time.Time, out bool) {
		if out || !isUnicast(raw) {
			return
		}
		p.way.accept(raw, came(at, r.looked, time.Now()))
	})
}

// came returns when a packet came that the kernel has stamped. The stamp is of
// the wall clock, which may be set meanwhile; but the packet was not there when
// the relay last began to look.
func came(stamp, looked, now time.Time) time.Time {
	at := now.Add(-now.Sub(stamp))
	switch {
	case at.Before(looked):
		return looked
	case at.After(now):
		return now
	}
	return at
}

// isUnicast reports whether it is an IP packet to a single host. Multicast is
// what kernels say of their own accord.
func isUnicast(raw []byte) bool {
	switch {
	case len(raw) >= 20 && raw[0]>>4 == 4:
		return raw[16] < 224
	case len(raw) >= 40 && raw[0]>>4 == 6:
		return raw[24] != 0xff
	}
	return false
}

func (r *Relay) send(w *way, out *lab.Sender) error {
	r.packets = w.leave(r.packets[:0], time.Now())
	for left := r.packets; len(left) > 0; {
		n, err := out.Send(left...)
		left = left[n:]
		switch {
		case errors.Is(err, unix.ENOBUFS): // as when the other end is down
			w.counts.Dropped++
			left = left[1:]
		case err != nil:
			return err
		}
	}
	clear(r.packets)
	return nil
}
