package client

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"postern/internal/hosts"
)

// A Forwarder listens on this machine, and knocks at a host for each connection that
// comes in.
type Forwarder struct {
	host    *hosts.Host
	report  func(Event)
	queue   queue
	waiting chan struct{} // one place for each connection that waits
	count   atomic.Int64  // connections so far

	reporting sync.Mutex
}

// maxWaiting is how many connections may wait for the door at a time. More wait in
// the system's own queue.
const maxWaiting = 128

// NewForwarder returns a forwarder to a host. It calls report for each event, one at
// a time.
func NewForwarder(h *hosts.Host, report func(Event)) *Forwarder {
	return &Forwarder{host: h, report: report, queue: newQueue(), waiting: make(chan struct{}, maxWaiting)}
}

// An EventKind is what has happened to a connection, or to a listener. Programs read
// its text.
type EventKind string

const (
	Listening EventKind = "listening" // Local, Addresses
	Slow      EventKind = "slow"      // the door is still shut: Seen
	Connected EventKind = "opened"    // Opened
	Shut      EventKind = "shut"      // Err; the connection is reset
	Gone      EventKind = "gone"      // the client broke off before the door was open
	Closed    EventKind = "closed"    // Sent, Received; Err if it broke off
)

// An Event is what a forwarder reports. Which fields are set depends on the kind.
type Event struct {
	Kind           EventKind
	Connection     int64     // counts from 1; 0 for a listener
	From           string    // the address that the connection comes from
	Since          time.Time // when it came in
	To             Destination
	Local          *Local
	Addresses      []string
	Seen           Seen
	Opened         *Opened
	Sent, Received int64
	Err            error
}

func (f *Forwarder) tell(e Event) {
	f.reporting.Lock()
	defer f.reporting.Unlock()
	f.report(e)
}

// Run listens until the context ends, and returns when the last connection has
// ended, too. The error is why it cannot listen.
func (f *Forwarder) Run(ctx context.Context, locals []Local) error {
	type listening struct {
		net.Listener
		to Destination
	}
	var all []listening
	var connections sync.WaitGroup
	defer func() {
		for _, ln := range all {
			ln.Close()
		}
		connections.Wait()
	}()
	for i := range locals {
		l := &locals[i]
		listeners, err := l.listen(ctx)
		if err != nil {
			return err
		}
		var at []string
		for _, ln := range listeners {
			all = append(all, listening{ln, l.To})
			at = append(at, ln.Addr().String())
		}
		f.tell(Event{Kind: Listening, To: l.To, Local: l, Addresses: at})
	}
	for _, ln := range all {
		connections.Go(func() { f.accept(ctx, ln, ln.to, &connections) })
	}
	<-ctx.Done()
	return nil
}

// accept takes connections until the listener is closed. It takes no more while too
// many wait.
func (f *Forwarder) accept(ctx context.Context, ln net.Listener, to Destination, connections *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// There are too many files, or a connection ended before it was taken.
			f.tell(Event{Kind: Shut, From: ln.Addr().String(), Since: time.Now(), To: to, Err: err})
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case f.waiting <- struct{}{}:
			connections.Go(func() { f.serve(ctx, conn.(*net.TCPConn), to) })
		case <-ctx.Done():
			conn.Close()
			return
		}
	}
}

// serve opens the door for one connection, and joins the two.
func (f *Forwarder) serve(ctx context.Context, client *net.TCPConn, to Destination) {
	defer client.Close()
	e := Event{Connection: f.count.Add(1), From: client.RemoteAddr().String(), Since: time.Now(), To: to}
	tell := func(kind EventKind) {
		e.Kind = kind
		f.tell(e)
	}
	opening, gone := context.WithCancel(ctx)
	defer gone()
	early := readEarly(client, gone)
	open := func() (*Opened, error) {
		return Open(opening, f.host, to, func(seen Seen) {
			e.Seen = seen
			tell(Slow)
		})
	}
	var o *Opened
	var err error
	if f.host.Key != nil { // tokens do not spoil each other
		o, err = open()
	} else {
		o, err = f.queue.open(opening, e.Since, to, open)
	}
	<-f.waiting
	early.stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case opening.Err() != nil:
		tell(Gone)
		return
	default:
		client.SetLinger(0) // a reset: there is no service
		e.Err = err
		tell(Shut)
		return
	}
	defer o.Conn.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); o.Conn.Close() })
	defer stop()
	e.Opened = o
	tell(Connected)
	e.Sent, e.Received, err = join(client, o.Conn, early)
	if err != nil {
		e.Err = &BrokenError{err}
	}
	if ctx.Err() == nil {
		tell(Closed)
	}
}
