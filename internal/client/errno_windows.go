package client

import (
	"errors"

	"golang.org/x/sys/windows"
)

// What some of the system's errors mean. (Package syscall's EADDRINUSE and others
// are numbers that Go invents on Windows.)

// taken reports whether another program listens there.
func taken(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// notOurs reports whether this machine has no such address.
func notOurs(err error) bool { return errors.Is(err, windows.WSAEADDRNOTAVAIL) }

// forbidden reports whether a firewall on this machine blocks it, or the system
// reserves the port.
func forbidden(err error) bool { return errors.Is(err, windows.WSAEACCES) }

// readerGone reports whether nobody reads the pipe that was written to.
func readerGone(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}
