package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"postern/internal/cli/ui"
)

// TestNotSent tells a turn that did not come from a network that does not carry.
func TestNotSent(t *testing.T) {
	to := netip.MustParseAddr("192.0.2.1")
	for _, test := range []struct {
		err  error
		want string // the hint
	}{
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), hintTurn},
		{fmt.Errorf("knocking: %w", syscall.ENETUNREACH), hintNetwork},
		{fmt.Errorf("knocking: %w", syscall.EPERM), hintOwnRules},
	} {
		f, ok := errors.AsType[*ui.Failure](notSent(to, test.err))
		if !ok || len(f.Hints) != 1 || f.Hints[0] != test.want {
			t.Errorf("%v: got %+v, want the hint %q", test.err, f, test.want)
		}
	}
	if err := notSent(to, context.Canceled); err != context.Canceled {
		t.Errorf("ended by its user: %v", err)
	}
}
