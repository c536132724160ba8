//go:build !linux

package client

import (
	"context"
	"io"
	"net"
)

func exchange(_ context.Context, in io.Reader, out io.Writer, conn *net.TCPConn) error {
	return exchangeStreams(in, out, conn)
}
