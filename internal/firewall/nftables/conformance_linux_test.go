package nftables_test

import (
	"testing"

	"postern/internal/firewall/conformance"
	"postern/internal/firewall/nftables"
)

// TestConformance proves that the rules decide as the automaton does.
func TestConformance(t *testing.T) { conformance.Run(t, nftables.Backend{}) }
