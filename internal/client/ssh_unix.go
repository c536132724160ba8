//go:build unix

package client

import (
	"os"

	"golang.org/x/sys/unix"
)

// become replaces this process by another program, whose signals, terminal and exit
// code are its own then.
func become(program string, args []string) error {
	return &RunError{program, unix.Exec(program, args, os.Environ())}
}
