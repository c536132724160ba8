package iptables

import (
	"testing"

	"postern/internal/firewall/conformance"
)

func TestByHand(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) { conformance.ByHand(t, b, true) })
}
