package host

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
)

// VRFs returns the names of the VRFs that interfaces of this network namespace are in,
// sorted.
func VRFs() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for its interfaces: %w", err)
	}
	return vrfs(links), nil
}

func vrfs(links []netlink.Link) []string {
	isVRF := map[string]bool{}
	for _, l := range links {
		isVRF[l.Attrs().Name] = l.Type() == "vrf"
	}
	var names []string
	for _, top := range masters(links) {
		if isVRF[top] {
			names = append(names, top)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
