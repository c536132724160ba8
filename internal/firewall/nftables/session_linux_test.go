package nftables

import (
	"testing"

	"postern/internal/firewall/conformance"
)

func TestOldSessions(t *testing.T) {
	t.Parallel()
	conformance.OldSessions(t, Backend{})
}

func TestHalfOpenSession(t *testing.T) {
	t.Parallel()
	conformance.HalfOpenSession(t, Backend{})
}
