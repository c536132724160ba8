//go:build !linux

package cli

import (
	"context"
	"io"
	"net"
)

// exchange passes on what a connection and two streams say to each other, until
// the service says no more.
func exchange(_ context.Context, in io.Reader, out io.Writer, conn *net.TCPConn) error {
	return exchangeStreams(in, out, conn)
}
