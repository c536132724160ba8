//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"postern/internal/packet"
)

// A Captured is one packet that a Capture has seen.
type Captured struct {
	*packet.Packet
	Time time.Time
	Out  bool   // the host sent it; false: it received it
	Raw  []byte // from its IP header on
}

// A Filter chooses the packets that a Capture keeps; nil keeps all. It must
// not keep the packet itself, and must not call the Capture.
type Filter func(*packet.Packet) bool

// A Capture collects packets. Its methods are safe for concurrent use.
type Capture struct {
	what    string
	filter  Filter
	sources []source

	mu      sync.Mutex
	queue   []Captured
	lost    error
	closed  bool
	arrived chan struct{} // has room for one token: there may be something new
	readers sync.WaitGroup
}

// A source is a socket that packets come from.
type source interface {
	// File returns the socket. The capture closes it.
	File() *os.File
	// Read hands over all packets that are there, without waiting. The octets
	// are valid during the call only.
	Read(keep func(raw []byte, at time.Time, out bool)) error
	// Lost returns how many packets the kernel had no room for.
	Lost() (uint32, error)
	// Close is called once, after the last Read.
	Close() error
}

// newCapture starts reading from the sources, which it closes.
func (h *Host) newCapture(what string, filter Filter, sources ...source) *Capture {
	c := &Capture{what: what, filter: filter, sources: sources, arrived: make(chan struct{}, 1)}
	for _, s := range sources {
		conn, err := s.File().SyscallConn()
		if err != nil {
			c.fail(err)
			continue
		}
		c.readers.Go(func() {
			// Waits in the runtime's poller, and ends when the file is closed.
			conn.Read(func(uintptr) bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.closed || c.read(s) != nil
			})
		})
	}
	h.lab.OnClose(func() error {
		c.Close()
		return nil // the test has closed it itself if it wanted to know
	})
	return c
}

// read takes what one source has. The caller holds the lock.
func (c *Capture) read(s source) error {
	before := len(c.queue)
	err := s.Read(func(raw []byte, at time.Time, out bool) {
		p, err := packet.Parse(raw)
		if err != nil || c.filter != nil && !c.filter(p) {
			return
		}
		raw = slices.Clone(raw)
		if p, err = packet.Parse(raw); err == nil { // now of memory that lasts
			c.queue = append(c.queue, Captured{p, at, out, raw})
		}
	})
	if err != nil {
		c.fail(err)
	}
	if len(c.queue) > before || err != nil {
		c.signal()
	}
	return err
}

// signal wakes one Next, which wakes another if it leaves something behind.
func (c *Capture) signal() {
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *Capture) fail(err error) {
	if c.lost == nil {
		c.lost = fmt.Errorf("lab: capture %s: %w", c.what, err)
	}
}

// take reads all sources to the end and removes up to limit packets from the
// queue.
func (c *Capture) take(limit int) ([]Captured, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		for _, s := range c.sources {
			if c.read(s) != nil {
				break
			}
			n, err := s.Lost()
			if err == nil && n > 0 {
				err = fmt.Errorf("the kernel dropped %d packets for want of room", n)
			}
			if err != nil {
				c.fail(err)
			}
		}
	}
	if c.lost != nil {
		c.signal()
		return nil, c.lost
	}
	n := min(limit, len(c.queue))
	got := slices.Clip(c.queue[:n])
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil // the lab keeps the capture, which must not keep what was taken
	}
	if len(c.queue) > 0 || c.closed {
		c.signal()
	}
	if n == 0 && c.closed {
		return nil, ErrClosed
	}
	return got, nil
}

// Next waits for a packet, removes it and returns it. Once the kernel has
// dropped a packet that should have been captured, Next and Drain fail: what
// they would return could prove nothing.
func (c *Capture) Next(ctx context.Context) (Captured, error) {
	for {
		got, err := c.take(1)
		if err != nil {
			return Captured{}, err
		}
		if len(got) > 0 {
			return got[0], nil
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			return Captured{}, fmt.Errorf("lab: capture %s: no packet: %w", c.what, ctx.Err())
		}
	}
}

// Drain removes the packets captured so far and returns them, without waiting.
// See Lab.Settle for when that is all of them.
func (c *Capture) Drain() ([]Captured, error) {
	got, err := c.take(int(^uint(0) >> 1))
	if errors.Is(err, ErrClosed) {
		return nil, nil
	}
	return got, err
}

// Close ends the capture. What it has captured can still be drained. It may be
// called twice.
func (c *Capture) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	for _, s := range c.sources {
		c.read(s)
	}
	c.closed = true
	c.mu.Unlock()
	c.signal()

	var errs []error
	for _, s := range c.sources {
		errs = append(errs, s.File().Close())
	}
	c.readers.Wait()
	for _, s := range c.sources {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
