package host

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"postern/internal/policy"
)

// Not every kernel has tunnels and ESP, so that these are made up.
func TestTunnels(t *testing.T) {
	up := func(name string, index, parent int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Name: name, Index: index, ParentIndex: parent, Flags: net.FlagUp}
	}
	here, there := net.ParseIP("192.0.2.1"), net.ParseIP("198.51.100.7")
	here6, there6 := net.ParseIP("2001:db8::1"), net.ParseIP("2001:db8:1::7")
	const fou = 1
	got := tunnels([]netlink.Link{
		&netlink.Device{LinkAttrs: up("eth0", 2, 0)},
		&netlink.Gretun{LinkAttrs: netlink.LinkAttrs{Name: "gre0", Index: 3}}, // the kernel's own, which is down
		&netlink.Gretun{LinkAttrs: up("gre1", 4, 2), Local: here, Remote: there},
		&netlink.Gretap{LinkAttrs: up("tap1", 5, 0), Local: here6, Remote: there6},
		&netlink.Gretun{LinkAttrs: up("many", 6, 0), Local: here, Remote: net.IPv4zero},
		&netlink.Gretun{LinkAttrs: up("fou1", 7, 0), Local: here, Remote: there, EncapType: fou},
		&netlink.Iptun{LinkAttrs: up("ipip1", 8, 0), Local: here, Remote: there, Proto: 4},
		&netlink.Iptun{LinkAttrs: up("mpls1", 9, 0), Local: here, Remote: there, Proto: 137},
		&netlink.Sittun{LinkAttrs: up("sit1", 10, 0), Local: here, Remote: there},
		&netlink.Ip6tnl{LinkAttrs: up("six1", 11, 0), Local: here6, Remote: there6, Proto: 41},
		&netlink.GenericLink{LinkAttrs: up("span1", 12, 0), LinkType: "erspan"},
		&netlink.GenericLink{LinkAttrs: up("other", 13, 0), LinkType: "wireguard"},
		&netlink.Vxlan{LinkAttrs: up("vx", 14, 2)},
	})
	address := netip.MustParseAddr
	a, b, a6, b6 := address("192.0.2.1"), address("198.51.100.7"), address("2001:db8::1"), address("2001:db8:1::7")
	want := []Tunnel{
		{"gre1", policy.GRE, a, b, "eth0"},
		{"tap1", policy.GRE, a6, b6, ""},
		{"many", policy.GRE, a, netip.Addr{}, ""},
		{"ipip1", policy.IPIP, a, b, ""},
		{"mpls1", 137, a, b, ""},
		{"sit1", policy.SIT, a, b, ""},
		{"six1", policy.SIT, a6, b6, ""},
		{"span1", policy.GRE, netip.Addr{}, netip.Addr{}, ""},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestIPsec(t *testing.T) {
	to := func(text string) netlink.XfrmState {
		return netlink.XfrmState{Proto: netlink.XFRM_PROTO_ESP, Dst: net.ParseIP(text), Src: net.ParseIP("198.51.100.7")}
	}
	in, out, inUDP, ah := to("192.0.2.1"), to("203.0.113.9"), to("192.0.2.1"), to("192.0.2.1")
	inUDP.Encap = &netlink.XfrmStateEncap{Type: netlink.XFRM_ENCAP_ESPINUDP}
	ah.Proto = netlink.XFRM_PROTO_AH
	isHere := func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
	for name, test := range map[string]struct {
		states []netlink.XfrmState
		want   []policy.Protocol
	}{
		"none":      {nil, nil},
		"in":        {[]netlink.XfrmState{out, in, in, ah}, []policy.Protocol{policy.ESP, policy.AH}},
		"in UDP":    {[]netlink.XfrmState{out, inUDP}, nil},
		"only sent": {[]netlink.XfrmState{out}, nil},
	} {
		if diff := cmp.Diff(test.want, ipsec(test.states, isHere)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}
