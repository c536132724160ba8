//go:build unix

package client

import (
	"errors"
	"syscall"
)

// What some of the system's errors mean; their names differ between systems.

// taken reports whether another program listens there.
func taken(err error) bool { return errors.Is(err, syscall.EADDRINUSE) }

// notOurs reports whether this machine has no such address.
func notOurs(err error) bool { return errors.Is(err, syscall.EADDRNOTAVAIL) }

// forbidden reports whether this user may not, or a firewall on this machine blocks
// it.
func forbidden(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// readerGone reports whether nobody reads the pipe that was written to.
func readerGone(err error) bool { return errors.Is(err, syscall.EPIPE) }
