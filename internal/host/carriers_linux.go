package host

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// carriers returns what a tunnel that ends on this host is made of, if a way leads
// through one: the port or protocol that its packets are sent to.
func (w *walk) carriers(way Way) []Way {
	link, err := netlink.LinkByName(way.Through)
	if err != nil {
		return nil
	}
	outer := func(p policy.Protocol, local, remote net.IP, port uint16) []Way {
		from, _ := netip.AddrFromSlice(remote)
		to, ok := netip.AddrFromSlice(local)
		if !ok {
			to = netip.IPv6Unspecified()
			if from.Unmap().Is4() {
				to = netip.IPv4Unspecified()
			}
		}
		return []Way{{
			By: way.Through, Protocol: p,
			Remote: netip.AddrPortFrom(from.Unmap(), 0), Local: netip.AddrPortFrom(to.Unmap(), port),
		}}
	}
	switch l := link.(type) {
	case *netlink.Gretun:
		return outer(policy.GRE, l.Local, l.Remote, 0)
	case *netlink.Gretap:
		return outer(policy.GRE, l.Local, l.Remote, 0)
	case *netlink.Iptun:
		return outer(unix.IPPROTO_IPIP, l.Local, l.Remote, 0)
	case *netlink.Sittun:
		return outer(unix.IPPROTO_IPV6, l.Local, l.Remote, 0)
	case *netlink.Ip6tnl:
		return outer(unix.IPPROTO_IPV6, l.Local, l.Remote, 0)
	case *netlink.Vti:
		return outer(policy.ESP, l.Local, l.Remote, 0)
	case *netlink.Vxlan:
		return outer(policy.UDP, l.SrcAddr, l.Group, uint16(l.Port))
	case *netlink.Geneve:
		return outer(policy.UDP, nil, l.Remote, l.Dport)
	case *netlink.Wireguard:
		return w.ofKernel(way.Through)
	case *netlink.Tuntap:
		return w.ofProgram(way.Through)
	}
	return nil
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
