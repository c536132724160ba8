//go:build unix

package client

import (
	"net"

	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
)

// CanPass reports whether this system can hand a connection to the process that
// asked for it.
const CanPass = true

// receiver is standard output: a socket, if ssh is to get the connection itself.
const receiver = 1

// CheckReceiver returns a *NoReceiverError if standard output is no socket that
// sockets can be sent over. It is for callers who look before they knock.
func CheckReceiver() error {
	if name, err := unix.Getsockname(receiver); err == nil {
		if _, ok := name.(*unix.SockaddrUnix); ok {
			return nil
		}
	}
	return &NoReceiverError{}
}

// Pass sends the connection over standard output. ssh reads one byte that comes with
// the socket (monitor_fdpass.c in its source), and then waits for this process to
// end. It gets a socket as it would make one: blocking, and with Nagle's algorithm.
func Pass(conn *net.TCPConn) error {
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
		return &PassError{err}
	}
	return nil
}
