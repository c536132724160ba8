package cli

import (
	"io"
	"net"
)

// exchangeStreams passes on what a connection and two streams say to each other, until
// the service says no more. The end of in is passed on, too.
func exchangeStreams(in io.Reader, out io.Writer, conn *net.TCPConn) error {
	go func() {
		carry(conn, in)
		conn.CloseWrite()
	}()
	_, err := carry(out, conn)
	return err
}
