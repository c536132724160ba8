package host

import (
	"fmt"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
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

// KernelBefore reports whether the kernel is older than a version. It is for what no probe
// can find out.
func KernelBefore(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	return before(unix.ByteSliceToString(u.Release[:]), major, minor)
}

func before(release string, major, minor int) bool {
	var a, b int
	if n, _ := fmt.Sscanf(release, "%d.%d", &a, &b); n != 2 {
		return false
	}
	return a < major || a == major && b < minor
}
