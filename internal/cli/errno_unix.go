//go:build unix

package cli

import (
	"errors"
	"syscall"
)

// What the system means by some of its errors, whose names differ.

// taken: another program listens there.
func taken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// notOurs: this machine has no such address.
func notOurs(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }

// forbidden: this user may not, or a firewall of this machine's own forbids it.
func forbidden(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// readerGone: nobody reads the pipe that was written to.
func readerGone(err error) bool { return errors.Is(err, syscall.EPIPE) }
