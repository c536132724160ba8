package nftables

import (
	"testing"

	"postern/internal/firewall/conformance"
	"postern/internal/policy"
)

func TestClosing(t *testing.T) {
	t.Parallel()
	for _, cover := range []policy.Cover{policy.CoverDrop, policy.CoverReset} {
		for _, onClose := range []policy.OnClose{policy.OnCloseKeep, policy.OnCloseCut} {
			t.Run(string(cover)+" "+string(onClose), func(t *testing.T) {
				t.Parallel()
				conformance.Closing(t, Backend{}, cover, onClose)
			})
		}
	}
}
