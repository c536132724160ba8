package cli

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"

	"postern/internal/cli/ui"
)

// become runs another program to its end, and ends as it does. (A process of Windows
// cannot become another program.) Ctrl-C is that one's.
func become(program string, args []string) error {
	signal.Ignore(os.Interrupt)
	cmd := exec.Command(program, args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ui.Failure{Code: exit.ExitCode(), Quiet: true, Err: err}
	}
	if err != nil {
		return notRun(program, err)
	}
	return nil
}
