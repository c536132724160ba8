package client

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
)

// become runs another program to its end. (A process on Windows cannot become
// another program.) Ctrl-C is left to that program.
func become(program string, args []string) error {
	signal.Ignore(os.Interrupt)
	cmd := exec.Command(program, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit
	}
	if err != nil {
		return &RunError{program, err}
	}
	return nil
}
