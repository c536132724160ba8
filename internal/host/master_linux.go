package host

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Masters returns, for each interface of this network namespace that is a port of
// another one (a bridge, a bond, a VRF), the name under which its packets arrive:
// its master's, or the name of the master's master. It is "" where the master does
// not show its packets at all, as in Open vSwitch.
func Masters() (map[string]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for its interfaces: %w", err)
	}
	return masters(links), nil
}

func masters(links []netlink.Link) map[string]string {
	byIndex := map[int]netlink.Link{}
	for _, l := range links {
		byIndex[l.Attrs().Index] = l
	}
	names := map[string]string{}
	for _, l := range links {
		top := l
		for range links { // no chain of masters is longer
			master := byIndex[top.Attrs().MasterIndex]
			if master == nil {
				break
			}
			top = master
		}
		switch {
		case top == l:
		case top.Type() == "openvswitch": // it does not see packets for this host itself
			names[l.Attrs().Name] = ""
		default:
			names[l.Attrs().Name] = top.Attrs().Name
		}
	}
	return names
}
