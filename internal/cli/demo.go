package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

const (
	shortDemo = "show knocking in a network of its own"
	longDemo  = `Builds two clients, a gateway with a hidden service and a host behind it out of
network namespaces, and has them scan, knock and connect. Everything it says is
checked with packets; it exits with 1 if anything is not so. It takes up to half
a minute, needs no privilege and no other program, touches no network of this
machine, and leaves nothing behind.`
)

// runDemo is demo_linux.go's. Where nil, demo says that it needs a kernel.
var runDemo func(*cobra.Command) error

// demoCommand tells the demo's story. Unlike the other verbs it acts on no
// policy file and on no kernel rules of this host.
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
