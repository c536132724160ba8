package iptables

import (
	"testing"

	"postern/internal/firewall/conformance"
)

func TestConformanceNFT(t *testing.T) { conformance.Run(t, Backend{Variant: "nft"}) }

func TestConformanceLegacy(t *testing.T) { conformance.Run(t, Backend{Variant: "legacy"}) }
