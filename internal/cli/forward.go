package cli

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/policy"
)

func (s *session) forwardCommand() *cobra.Command {
	var patience timeout
	var quiet bool
	cmd := &cobra.Command{
		Use:     "forward NAME LOCAL...",
		Short:   shortForward,
		Long:    longForward,
		Example: exampleForward,
		Args: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return &ui.UsageError{Err: errors.New(sayNobodyToForward), Cmd: cmd}
			case 1:
				return &ui.UsageError{Err: errors.New(sayNoLocal), Cmd: cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.AnswerLines(s.Out, func() error {
				h, err := s.hostFor(args[0], patience)
				if err != nil {
					return order(args, err)
				}
				locals := make([]local, len(args)-1)
				for i, text := range args[1:] {
					if locals[i], err = parseLocal(text, h); err != nil {
						return &ui.UsageError{Err: err, Cmd: cmd}
					}
					if locals[i].to.port.Protocol != policy.TCP {
						return notTCP(h)
					}
					for j := range i {
						if locals[j].meets(&locals[i]) {
							return &ui.UsageError{Err: givenTwice(args[1+j], text), Cmd: cmd}
						}
					}
				}
				f := &forwarder{session: s, host: h, quiet: quiet, queue: newQueue(), waiting: make(chan struct{}, mostWaiting)}
				return f.run(cmd.Context(), locals)
			})
		},
	}
	cmd.Flags().Var(&patience, timeoutFlag, flagPatience)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, flagQuiet)
	ui.WithoutPolicy(cmd)
	return cmd
}

// order says that the host comes first, if that is what is wrong.
func order(args []string, err error) error {
	if f, ok := errors.AsType[*ui.Failure](err); ok && f.Code == ui.CodeUsage && known(args[1]) {
		f.Hints = []string{hintNameFirst(args[0], args[1])}
	}
	return err
}

// mostWaiting is how many connections may wait for the door at a time. More wait in the
// system's own queue.
const mostWaiting = 128

// A forwarder knocks for each connection that comes in.
type forwarder struct {
	*session
	host    *hosts.Host
	quiet   bool
	queue   queue
	waiting chan struct{} // a place for each connection that waits
	count   atomic.Int64  // of connections so far

	talk   sync.Mutex
	hints  []string  // said last
	gist   string    // of the error that was said last
	shutAt time.Time // when anybody was last told of it
}

// run listens until the context ends.
func (f *forwarder) run(ctx context.Context, locals []local) error {
	if err := f.listen(ctx, locals); err != nil {
		return err
	}
	if f.JSON {
		f.Line(f.Out, event{Event: "ended"})
	}
	// To a person, who has ended it, that is no news.
	return &ui.Failure{Code: ui.CodeInterrupted, Message: ui.SayInterrupted, Quiet: true, Answered: true}
}

// listen listens until the context ends, and the last connection with it.
func (f *forwarder) listen(ctx context.Context, locals []local) error {
	type listening struct {
		net.Listener
		to destination
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
			all = append(all, listening{ln, l.to})
			at = append(at, ln.Addr().String())
		}
		f.tellListening(l, at)
	}
	for _, ln := range all {
		connections.Go(func() { f.accept(ctx, ln, ln.to, &connections) })
	}
	<-ctx.Done()
	return nil
}

// accept takes connections until the listener is closed. It takes no more while too
// many wait.
func (f *forwarder) accept(ctx context.Context, ln net.Listener, to destination, connections *sync.WaitGroup) {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// There are too many files, or a connection ended before it was taken.
			f.tellShut(caller{from: ln.Addr().String(), to: to, came: time.Now()}, ui.Explain(err))
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

// serve opens the door for one connection, and passes on what comes and goes.
func (f *forwarder) serve(ctx context.Context, client *net.TCPConn, to destination) {
	defer client.Close()
	c := caller{number: f.count.Add(1), from: client.RemoteAddr().String(), to: to, came: time.Now()}
	opening, gone := context.WithCancel(ctx)
	defer gone()
	early := readEarly(client, gone)
	o, err := f.queue.open(opening, c.came, to, func() (*opened, error) {
		return open(opening, f.host, to, func(seen sight) { f.tellStillShut(c, seen) })
	})
	<-f.waiting
	early.stop()
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return
	case opening.Err() != nil:
		f.tellGone(c)
		return
	default:
		client.SetLinger(0) // a reset: there is no service
		f.tellShut(c, ui.Explain(err))
		return
	}
	defer o.conn.Close()
	stop := context.AfterFunc(ctx, func() { client.Close(); o.conn.Close() })
	defer stop()
	f.tellOpened(c, o)
	sent, received, err := join(client, o.conn, early)
	if ctx.Err() == nil {
		f.tellClosed(c, sent, received, err)
	}
}

// A caller is a connection that came in, by which events are told apart.
type caller struct {
	number int64
	from   string
	to     destination
	came   time.Time
}

// An event is a line for programs.
type event struct {
	Event      string   `json:"event"`
	Connection int64    `json:"connection,omitempty"`
	From       string   `json:"from,omitempty"`
	To         string   `json:"to,omitempty"`
	Addresses  []string `json:"addresses,omitempty"`
	*opened
	*transfer
	Error    *ui.Failure `json:"error,omitempty"`
	Warnings []ui.Remark `json:"warnings,omitempty"`
}

type transfer struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

func (f *forwarder) tellListening(l *local, at []string) {
	var warnings []ui.Remark
	if l.bind.exposed() {
		warnings = []ui.Remark{exposedListener(f.host, at)}
	}
	if f.JSON {
		f.Line(f.Out, event{Event: "listening", To: l.to.hostPort(f.host), Addresses: at, Warnings: append(warnings, f.Remarks...)})
		return
	}
	if !f.quiet {
		f.sayListening(f.host, l, at)
	}
	f.Warn(warnings...)
}

func (f *forwarder) tellOpened(c caller, o *opened) {
	f.talk.Lock()
	defer f.talk.Unlock()
	if f.JSON {
		f.Line(f.Out, event{Event: "opened", Connection: c.number, From: c.from, opened: o})
	} else if !f.quiet {
		f.sayThrough(c.from, o)
	}
}

func (f *forwarder) tellShut(c caller, why *ui.Failure) {
	f.talk.Lock()
	defer f.talk.Unlock()
	if f.JSON {
		f.Line(f.Out, event{Event: "shut", Connection: c.number, From: c.from, To: c.to.hostPort(f.host), Error: why})
		return
	}
	gist, again := cmp.Or(why.Gist, why.Message), f.again(c)
	f.shutAt = time.Now()
	if again && gist == f.gist {
		return
	}
	f.gist = gist
	said := about(c.from, why)
	if slices.Equal(f.hints, said.Hints) { // once is enough for many
		said.Hints = nil
	} else {
		f.hints = said.Hints
	}
	f.Fail(said)
}

// burst is how soon after a shut door a client tries its next address, or an impatient
// one the same again.
const burst = time.Second

// again tells whether a connection is of the burst that the last error was told to. The
// caller must hold talk.
func (f *forwarder) again(c caller) bool { return c.came.Before(f.shutAt.Add(burst)) }

func (f *forwarder) tellStillShut(c caller, seen sight) {
	f.talk.Lock()
	defer f.talk.Unlock()
	if !f.quiet && !f.again(c) {
		f.sayStillShut(c.from, f.host, c.to, seen)
	}
}

func (f *forwarder) tellGone(c caller) {
	f.talk.Lock()
	defer f.talk.Unlock()
	if f.JSON {
		f.Line(f.Out, event{Event: "gone", Connection: c.number, From: c.from})
	} else if !f.quiet {
		f.sayGone(c.from)
	}
}

func (f *forwarder) tellClosed(c caller, sent, received int64, err error) {
	f.talk.Lock()
	defer f.talk.Unlock()
	var why *ui.Failure
	if err != nil {
		why = brokenOff(err)
	}
	if f.JSON {
		f.Line(f.Out, event{Event: "closed", Connection: c.number, From: c.from, transfer: &transfer{sent, received}, Error: why})
	} else if why != nil { // to a person the end of a connection is no news
		f.Fail(about(c.from, why))
	}
}
