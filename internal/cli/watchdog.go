package cli

import (
	"context"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

// A watch is how the watchdog is to run.
type watch struct {
	once     bool
	onlyLook bool
}

// runWatchdog is watchdog_linux.go's. Where nil, watchdog says that it needs a kernel.
var runWatchdog func(context.Context, *session, watch) error

func (s *session) watchdogCommand() *cobra.Command {
	var w watch
	cmd := &cobra.Command{
		Use:   "watchdog",
		Short: shortWatchdog,
		Long:  longWatchdog,
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return runWatchdog(cmd.Context(), s, w) },
	}
	cmd.Flags().BoolVar(&w.once, "once", false, flagOnce)
	cmd.Flags().BoolVar(&w.onlyLook, "only-look", false, flagOnlyLook)
	ui.WithoutAny(cmd)
	return cmd
}
