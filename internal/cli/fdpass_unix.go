//go:build unix

package cli

import (
	"context"
	"net"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
)

// canPassSocket: a connection can be handed to the process that asked for it.
const canPassSocket = true

func passFlag(cmd *cobra.Command, on *bool) {
	cmd.Flags().BoolVar(on, "fdpass", false, flagPass)
}

// receiver is standard output: a socket, if ssh is to get the connection itself.
const receiver = 1

// canReceive looks before anything is knocked at: standard output must be a
// socket of the kind that sockets can be sent by.
func canReceive() error {
	if name, err := unix.Getsockname(receiver); err == nil {
		if _, ok := name.(*unix.SockaddrUnix); ok {
			return nil
		}
	}
	return nobodyToReceive()
}

// handOver sends the connection over standard output. ssh reads one byte that has the
// socket with it (monitor_fdpass.c in its source), and then waits for us to end. It gets a socket
// as one of its own making would be: blocking, and not in a hurry with small packets.
func handOver(_ context.Context, conn *net.TCPConn) error {
	conn.SetNoDelay(false)
	err := descriptor.Use(conn, func(fd int) error {
		if err := unix.SetNonblock(fd, false); err != nil {
			return err
		}
		for {
			err := unix.Sendmsg(receiver, []byte{0}, unix.UnixRights(fd), nil, 0)
			if err != unix.EINTR {
				return err
			}
		}
	})
	if err != nil {
		return notHandedOver(err)
	}
	return nil
}
