package host

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Links returns the interfaces of this network namespace that are up, without
// loopback.
func Links() ([]Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for its interfaces: %w", err)
	}
	defaults, err := defaultRoutes()
	if err != nil {
		return nil, err
	}
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var all []Link
	for _, l := range links {
		at := l.Attrs()
		if at.Flags&net.FlagUp == 0 || at.Flags&net.FlagLoopback != 0 {
			continue
		}
		link := Link{Name: at.Name, Master: names[at.MasterIndex], DefaultRoute: defaults[at.Index]}
		// The peer of a veth in another network namespace has a number of that one.
		if l.Type() != "veth" && at.NetNsID < 0 {
			link.Parent = names[at.ParentIndex]
		}
		addresses, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("asking the kernel for the addresses of %s: %w", at.Name, err)
		}
		for _, a := range addresses {
			link.Global = link.Global || a.IP.IsGlobalUnicast()
		}
		all = append(all, link)
	}
	return all, nil
}

// defaultRoutes returns the interfaces that have a default route, in any routing
// table. (A VPN's is often in one of its own.)
func defaultRoutes() (map[int]bool, error) {
	found := map[int]bool{}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("asking the kernel for its routes: %w", err)
		}
		for _, r := range routes {
			if r.Dst != nil {
				if ones, _ := r.Dst.Mask.Size(); ones != 0 {
					continue
				}
			}
			if r.Type != unix.RTN_UNICAST && r.Type != unix.RTN_UNSPEC {
				continue
			}
			found[r.LinkIndex] = true
			for _, hop := range r.MultiPath {
				found[hop.LinkIndex] = true
			}
		}
	}
	return found, nil
}
