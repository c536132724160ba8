//go:build linux

package bench

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"postern/internal/lab"
)

// Main runs a bench in the lab, until it ends or is interrupted. It exits with 1 if
// the bench fails, and with 130 if it was interrupted, as a shell says it.
func Main(name string, run func(ctx context.Context) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := lab.Enter()
	if err == nil {
		err = run(ctx)
	}
	if ctx.Err() != nil {
		os.Exit(130)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", name, err)
		os.Exit(1)
	}
}
