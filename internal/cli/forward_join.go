package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A queue lets openings in one after another. (Those of other processes it knows
// nothing of: Open itself waits for them. But that wait is part of an opening's time.)
type queue struct {
	turn chan struct{}          // holds something while an opening is under way
	shut map[destination]answer // the last one, to whose turn it is
}

// An answer is how an opening failed, and when.
type answer struct {
	err error
	at  time.Time
}

func newQueue() queue {
	return queue{turn: make(chan struct{}, 1), shut: map[destination]answer{}}
}

// open waits for its turn, and opens. Whoever waited while the way to the same
// destination stayed shut has waited for the same answer: many would otherwise wait for as
// many timeouts.
func (q *queue) open(ctx context.Context, since time.Time, to destination, open func() (*opened, error)) (*opened, error) {
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if last := q.shut[to]; since.Before(last.at) {
		return nil, last.err
	}
	o, err := open()
	if err != nil && ctx.Err() == nil {
		q.shut[to] = answer{err, time.Now()}
	}
	return o, err
}

// early is what a client says before the door is open. It is read so that a
// client which breaks off is noticed. (One that merely says no more may be waiting for the
// answer: whether it is gone cannot be told.)
type early struct {
	conn *net.TCPConn
	said []byte
	done chan struct{}
}

// mostEarly is how much is read: a request, say. A client that says more before
// it is answered is read no further.
const mostEarly = 16 << 10

// readEarly reads until stop, and calls gone if the client breaks off.
func readEarly(conn *net.TCPConn, gone func()) *early {
	e := &early{conn: conn, said: make([]byte, 0, mostEarly), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for len(e.said) < mostEarly {
			n, err := conn.Read(e.said[len(e.said):mostEarly])
			e.said = e.said[:len(e.said)+n]
			switch {
			case err == nil:
			case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
				return
			default:
				gone()
				return
			}
		}
	}()
	return e
}

// stop ends the reading. Only then is what was read there to be used.
func (e *early) stop() {
	e.conn.SetReadDeadline(time.Unix(1, 0))
	<-e.done
	e.conn.SetReadDeadline(time.Time{})
}

// join passes on what two connections say to each other, each end of it by
// itself, until both have ended or one breaks off. Then the other is reset, too.
func join(client, service *net.TCPConn, e *early) (sent, received int64, err error) {
	var once sync.Once
	broken := func(cause error) {
		once.Do(func() {
			err = cause
			for _, conn := range []*net.TCPConn{client, service} {
				conn.SetLinger(0)
				conn.Close()
			}
		})
	}
	var both sync.WaitGroup
	both.Go(func() {
		n, err := service.Write(e.said)
		sent = int64(n)
		if err == nil {
			var more int64
			more, err = carry(service, client)
			sent += more
		}
		if err != nil {
			broken(err)
			return
		}
		service.CloseWrite()
	})
	both.Go(func() {
		n, err := carry(client, service)
		received = n
		if err != nil {
			broken(err)
			return
		}
		client.CloseWrite()
	})
	both.Wait()
	return sent, received, err
}
