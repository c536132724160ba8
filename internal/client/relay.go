package client

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"time"
)

// Relay passes bytes between a connection and two streams until the service ends
// it, or the context does. The end of in is passed on: many a service answers only
// then.
//
// It is no error if nobody reads out any more. A writer that cannot write for
// another reason is an *OutputError, a connection that fails a *BrokenError. A
// program that calls it must ignore SIGPIPE.
func Relay(ctx context.Context, in io.Reader, out io.Writer, conn *net.TCPConn) error {
	// Close would wait for a goroutine that polls the connection. Shutting it down wakes
	// that one up, and the deadline wakes all others.
	stop := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0))
		conn.CloseRead()
		conn.CloseWrite()
	})
	defer stop()
	err := exchange(ctx, in, out, conn)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case readerGone(err), errors.Is(err, os.ErrClosed):
		return nil
	case isWrite(err):
		return &OutputError{err}
	case err != nil:
		return &BrokenError{err}
	}
	return nil
}

// isWrite tells errors of standard output from those of the connection: what is no
// socket is a file with a name.
func isWrite(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// exchangeStreams passes bytes between a connection and two streams, each direction
// by itself.
func exchangeStreams(in io.Reader, out io.Writer, conn *net.TCPConn) error {
	go func() {
		copyBytes(conn, in)
		conn.CloseWrite()
	}()
	_, err := copyBytes(out, conn)
	return err
}

// bufferSize is how much of a stream is read at a time.
const bufferSize = 256 << 10

// copyBytes copies from one stream to another until the first ends.
//
// It is not io.Copy, because that leaves the work to the kernel where both are
// files, by splice(2), which takes an urgent byte, and all bytes after it, for the
// end.
func copyBytes(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, bufferSize))
}
