package nftables

import (
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A flow is a TCP connection of this host.
type flow struct {
	Local, Remote netip.AddrPort
}

type flows map[flow]struct{}

// without gives the flows that are not among others.
func (f flows) without(others flows) flows {
	rest := maps.Clone(f)
	for flow := range others {
		delete(rest, flow)
	}
	return rest
}

// sessions asks the kernel for its TCP connections, by sock_diag(7).
func sessions() (flows, error) {
	found := flows{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return nil, fmt.Errorf("asking the kernel for its TCP connections: %w", err)
		}
		for _, s := range sockets {
			if s.State == netlink.TCP_LISTEN || s.State == netlink.TCP_TIME_WAIT {
				continue
			}
			// An IPv6 socket may carry IPv4.
			local, ok := netip.AddrFromSlice(s.ID.Source)
			remote, ok2 := netip.AddrFromSlice(s.ID.Destination)
			if !ok || !ok2 || remote.Unmap().IsLoopback() || remote.IsUnspecified() {
				continue
			}
			found[flow{
				Local:  netip.AddrPortFrom(local.Unmap(), s.ID.SourcePort),
				Remote: netip.AddrPortFrom(remote.Unmap(), s.ID.DestinationPort),
			}] = struct{}{}
		}
	}
	return found, nil
}
