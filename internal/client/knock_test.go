package client

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"testing"
)

// TestKnockError tells a turn that did not come from a network that does not carry.
func TestKnockError(t *testing.T) {
	to := netip.MustParseAddr("192.0.2.1")
	for _, test := range []struct {
		err  error
		want string // the hint
	}{
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), "openings at one address take turns, so that they do not spoil each other's knocks: try again soon"},
		{fmt.Errorf("knocking: %w", syscall.ENETUNREACH), hintNetwork},
		{fmt.Errorf("knocking: %w", syscall.EPERM), hintOwnRules},
	} {
		hinted, ok := knockError(to, test.err).(interface{ Hints() []string })
		if !ok || len(hinted.Hints()) != 1 || hinted.Hints()[0] != test.want {
			t.Errorf("%v: got %+v, want the hint %q", test.err, hinted, test.want)
		}
	}
	if err := knockError(to, context.Canceled); err != context.Canceled {
		t.Errorf("ended by its user: %v", err)
	}
}
