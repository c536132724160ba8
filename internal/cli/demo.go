package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

const (
	shortDemo = "show how knocking works, in a network of its own"
	longDemo  = `Builds two clients, a gateway with a hidden service and a host behind it out of
network namespaces, and has them scan, knock and connect. Each statement is
checked with packets; the exit code is 1 if one does not hold. It takes up to
half a minute. It needs no privilege and no other program, does not touch the
networks of this machine, and leaves nothing behind.`
)

// runDemo is demo_linux.go's. Where nil, demo says that it needs a kernel.
var runDemo func(*cobra.Command) error

// demoCommand runs the demo. Unlike the other verbs it uses no policy file, and no
// rules of this host.
func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: shortDemo,
		Long:  longDemo,
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runDemo(cmd) },
	}
	ui.WithoutPolicy(cmd) // it brings its own
	return cmd
}
