package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"postern/internal/demo"
	"postern/internal/lab"
)

const (
	shortDemo = "show knocking in a network of its own"
	longDemo  = `Builds two clients, a gateway with a hidden service and a host behind it out of
network namespaces, and has them scan, knock and connect. Everything it says is
checked with packets; it exits with 1 if anything is not so. It takes up to half
a minute, needs no privilege and no other program, touches no network of this
machine, and leaves nothing behind.`
)

// demoCommand tells the demo's story. Unlike the other verbs it acts on no
// policy file and on no kernel rules of this host.
func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: shortDemo,
		Long:  longDemo,
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// It may run the program again, so nothing may have been said yet.
			if err := lab.Enter(); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			asJSON, err := cmd.Flags().GetBool("json")
			if err != nil {
				return err
			}
			screen := demoScreen(out)
			if asJSON {
				screen = &demo.Screen{Out: io.Discard}
			}
			report, err := demo.Run(cmd.Context(), screen, demo.Policy())
			if err != nil || !asJSON {
				return err
			}
			v := voice{out: out, json: true}
			return v.answer(report)
		},
	}
	withoutPolicy(cmd) // it brings its own
	return cmd
}

// demoScreen is what the story is told on: somebody reads along on a terminal.
func demoScreen(out io.Writer) *demo.Screen {
	screen := &demo.Screen{Out: out}
	if f, ok := out.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		screen.Paced, screen.Colour = err == nil, colourful(f)
	}
	return screen
}
