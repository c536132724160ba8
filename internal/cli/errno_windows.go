package cli

import (
	"errors"

	"golang.org/x/sys/windows"
)

// What the system means by some of its errors. (What package syscall calls
// EADDRINUSE here, say, is a number that Go has made up.)

// taken: another program listens there.
func taken(err error) bool { return errors.Is(err, windows.WSAEADDRINUSE) }

// notOurs: this machine has no such address.
func notOurs(err error) bool { return errors.Is(err, windows.WSAEADDRNOTAVAIL) }

// forbidden: a firewall of this machine's own forbids it, or the system keeps a port
// for itself.
func forbidden(err error) bool { return errors.Is(err, windows.WSAEACCES) }

// readerGone: nobody reads the pipe that was written to.
func readerGone(err error) bool {
	return errors.Is(err, windows.ERROR_BROKEN_PIPE) || errors.Is(err, windows.ERROR_NO_DATA)
}
