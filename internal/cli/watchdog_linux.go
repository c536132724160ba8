package cli

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"postern/internal/change"
	"postern/internal/watchdog"
)

func init() { runWatchdog = watchRules }

// watchRules runs the watchdog until it is told to end.
func watchRules(ctx context.Context, s *session, w watch) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM)
	defer stop()
	config := watchdog.Config{
		Place: change.Here(), Backends: s.backends, OnlyLook: w.onlyLook,
		Journal: &watchdog.Journal{To: s.Err, Priority: watchdog.InJournal(os.Stderr)},
	}
	if w.once {
		return watchdog.Once(ctx, config)
	}
	return watchdog.Run(ctx, config)
}
