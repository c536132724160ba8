package iptables

import (
	"testing"

	"postern/internal/firewall/conformance"
)

// TestConformance proves that the rules decide as the automaton does. Both variants wait
// more than they work, and other tests, which work, would disturb their times: so it runs
// the two beside each other, and nothing else.
func TestConformance(t *testing.T) {
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		conformance.Run(t, b)
	})
}
