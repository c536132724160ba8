//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// become has another program go on as this process: nobody is left in between,
// and signals, the terminal and the exit code are its own.
func become(program string, args []string) error {
	return notRun(program, unix.Exec(program, args, os.Environ()))
}
