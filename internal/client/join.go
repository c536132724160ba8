package client

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// early is what a program sends before the door is open. It is read so that a
// program which breaks off is noticed. (One that has only ended its own side may be
// waiting for the answer: whether it is still there cannot be seen.)
type early struct {
	conn *net.TCPConn
	data []byte
	done chan struct{}
}

// maxEarly is how much is read before the door is open: a request, say.
const maxEarly = 16 << 10

// readEarly reads until stop, and calls gone if the program breaks off.
func readEarly(conn *net.TCPConn, gone func()) *early {
	e := &early{conn: conn, data: make([]byte, 0, maxEarly), done: make(chan struct{})}
	go func() {
		defer close(e.done)
		for len(e.data) < maxEarly {
			n, err := conn.Read(e.data[len(e.data):maxEarly])
			e.data = e.data[:len(e.data)+n]
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

// stop ends the reading. Only afterwards may the data be used.
func (e *early) stop() {
	e.conn.SetReadDeadline(time.Unix(1, 0))
	<-e.done
	e.conn.SetReadDeadline(time.Time{})
}

// join passes bytes between two connections, each direction by itself, until both
// have ended or one breaks off. Then the other is reset as well.
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
		n, err := service.Write(e.data)
		sent = int64(n)
		if err == nil {
			var more int64
			more, err = copyBytes(service, client)
			sent += more
		}
		if err != nil {
			broken(err)
			return
		}
		service.CloseWrite()
	})
	both.Go(func() {
		n, err := copyBytes(client, service)
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
