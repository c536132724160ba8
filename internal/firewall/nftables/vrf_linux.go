package nftables

import (
	"fmt"

	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/paragraph"
)

// Advise warns of VRFs where the kernel does not look into their tables.
//
// What asks whether a packet is for this host (fib daddr type local) looks into the table of
// the VRF since Linux 6.16 ("nft_fib: consistent l3mdev handling"), and before that into the
// one of the host's other addresses. No rule finds out otherwise.
func (Backend) Advise() ([]firewall.Advice, error) {
	if !host.KernelBefore(6, 16) {
		return nil, nil
	}
	vrfs, err := host.VRFs()
	if err != nil || len(vrfs) == 0 {
		return nil, err
	}
	return []firewall.Advice{{
		Message: fmt.Sprintf("no door opens at an address in the VRF %s: before Linux 6.16 rules cannot tell that it is this host's", paragraph.List(vrfs)),
		Hints:   []string{"what is hidden there stays hidden; a newer kernel opens it"},
	}}, nil
}
