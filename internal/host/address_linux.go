package host

import (
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Interface reports whether an address is one of this network namespace's own, and
// which interface has it: "" where none has, as under a local route to a whole
// network. If the kernel does not say, the address is assumed to be here.
func Interface(address netip.Addr) (name string, here bool) {
	all, err := net.Interfaces()
	if err != nil {
		return "", true
	}
	for _, i := range all {
		addresses, err := i.Addrs()
		if err != nil {
			return "", true
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok {
				if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == address {
					return i.Name, true
				}
			}
		}
	}
	routes, err := netlink.RouteGet(address.AsSlice())
	return "", err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
}

// Towards returns the interface by which this host sends to an address; "" if that is
// not known.
func Towards(address netip.Addr) string {
	if !address.IsValid() || address.IsUnspecified() {
		return ""
	}
	routes, err := netlink.RouteGet(address.AsSlice())
	if err != nil || len(routes) == 0 {
		return ""
	}
	i, err := net.InterfaceByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return i.Name
}
