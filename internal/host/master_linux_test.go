package host

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

// Not every kernel has bonds and VRFs, so that these are made up. (A script of
// the command's has a real bridge.)
func TestMasters(t *testing.T) {
	of := func(name string, index, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: index, MasterIndex: master}
	}
	links := []netlink.Link{
		&netlink.Device{LinkAttrs: of("lo", 1, 0)},
		&netlink.Device{LinkAttrs: of("eth0", 2, 10)},
		&netlink.Device{LinkAttrs: of("eth1", 3, 10)},
		&netlink.Bond{LinkAttrs: of("bond0", 10, 11)},
		&netlink.Bridge{LinkAttrs: of("br0", 11, 12)},
		&netlink.Vrf{LinkAttrs: of("vrf0", 12, 0)},
		&netlink.Device{LinkAttrs: of("eth2", 4, 13)},
		&netlink.GenericLink{LinkAttrs: of("ovs-system", 13, 0), LinkType: "openvswitch"},
		&netlink.Device{LinkAttrs: of("eth3", 5, 99)}, // it went meanwhile
		&netlink.Vrf{LinkAttrs: of("unused", 14, 0)},
		&netlink.Bridge{LinkAttrs: of("br1", 15, 0)},
		&netlink.Device{LinkAttrs: of("eth4", 16, 15)},
	}
	got := masters(links)
	want := map[string]string{"eth0": "vrf0", "eth1": "vrf0", "bond0": "vrf0", "br0": "vrf0", "eth2": "", "eth4": "br1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"vrf0"}, vrfs(links)); diff != "" {
		t.Errorf("VRFs: -want +got:\n%s", diff)
	}
}
