package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"postern/internal/change"
	"postern/internal/firewall"
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
	run := watchdog.Run
	if w.once {
		run = watchdog.Once
	}
	err := run(ctx, config)
	if errors.Is(err, fs.ErrPermission) {
		return &firewall.PermissionError{Err: err}
	}
	return err
}
