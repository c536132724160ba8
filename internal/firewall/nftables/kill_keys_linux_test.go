package nftables

import (
	"testing"

	"postern/internal/firewall/conformance"
)

// TestApplyKeysUntilKilled is the other half of TestKillKeys; on its own it does nothing.
func TestApplyKeysUntilKilled(t *testing.T) { conformance.ApplyKeysUntilKilled(t, Backend{}) }

func TestKillKeys(t *testing.T) { conformance.KillKeys(t, Backend{}, "TestApplyKeysUntilKilled") }
