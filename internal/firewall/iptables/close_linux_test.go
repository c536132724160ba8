package iptables

import (
	"testing"

	"postern/internal/firewall/conformance"
	"postern/internal/policy"
)

func TestClosing(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) { conformance.Closing(t, b, policy.CoverReset, policy.OnCloseKeep) })
}
