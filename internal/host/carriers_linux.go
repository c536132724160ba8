package host

import (
	"net/netip"

	"github.com/vishvananda/netlink"

	"postern/internal/policy"
)

// carriers returns what a tunnel that ends on this host is made of, if a way leads
// through one: the port or protocol that its packets are sent to.
func (w *walk) carriers(way Way) []Way {
	link, err := netlink.LinkByName(way.Through)
	if err != nil {
		return nil
	}
	if all := tunnels([]netlink.Link{link}); len(all) == 1 {
		return carrier(way.Through, all[0].Protocol, all[0].Local, all[0].Remote, 0)
	}
	switch l := link.(type) {
	case *netlink.Vti:
		return carrier(way.Through, policy.ESP, address(l.Local), address(l.Remote), 0)
	case *netlink.Vxlan:
		return carrier(way.Through, policy.UDP, address(l.SrcAddr), address(l.Group), uint16(l.Port))
	case *netlink.Geneve:
		return carrier(way.Through, policy.UDP, netip.Addr{}, address(l.Remote), l.Dport)
	case *netlink.Wireguard:
		return w.ofKernel(way.Through)
	case *netlink.Tuntap:
		return w.ofProgram(way.Through)
	}
	return nil
}

// carrier returns the way of a tunnel's own packets. Ends may be unknown.
func carrier(by string, p policy.Protocol, local, remote netip.Addr, port uint16) []Way {
	if !local.IsValid() {
		local = netip.IPv6Unspecified()
		if remote.Is4() {
			local = netip.IPv4Unspecified()
		}
	}
	return []Way{{By: by, Protocol: p, Remote: netip.AddrPortFrom(remote, 0), Local: netip.AddrPortFrom(local, port)}}
}

// ofProgram returns the ports of the program that has a tunnel's device open, without
// UDP ports that the kernel picked: from there the program itself begins.
func (w *walk) ofProgram(device string) []Way {
	first, last := Ephemeral()
	var ways []Way
	for _, pid := range w.holders("/dev/net/tun", "iff: "+device) {
		for _, inode := range w.inodes(pid) {
			if local, ok := w.datagrams(inode); ok && (local.Port() < first || local.Port() > last) {
				ways = append(ways, Way{By: w.name(pid), Protocol: policy.UDP, Local: local})
			}
			if c := w.connection(inode); c != nil && w.listens(c.local) && !c.remote.Addr().IsLoopback() {
				ways = append(ways, Way{By: w.name(pid), Protocol: policy.TCP, Local: c.local, Remote: c.remote})
			}
		}
	}
	return ways
}

// ofKernel returns the UDP ports that no program has open: WireGuard's own, or
// another tunnel's.
func (w *walk) ofKernel(device string) []Way {
	w.load()
	owned := map[uint32]bool{}
	for _, pid := range w.all() {
		for _, inode := range w.inodes(pid) {
			owned[inode] = true
		}
	}
	var ways []Way
	for inode, local := range w.unconnected {
		if !owned[inode] {
			ways = append(ways, Way{By: device, Protocol: policy.UDP, Local: local})
		}
	}
	return ways
}
