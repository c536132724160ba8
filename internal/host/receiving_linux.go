package host

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Receiving returns the UDP sockets of this network namespace that others can send
// to. Those of clients, which have one peer, are not among them; but the kernel
// cannot distinguish a server on a port that it picked from a client that asks many.
func Receiving() ([]Receiver, error) {
	var all []Receiver
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagUDP(family)
		if err != nil {
			return nil, fmt.Errorf("asking the kernel who receives UDP: %w", err)
		}
		for _, s := range sockets {
			address, ok := netip.AddrFromSlice(s.ID.Source)
			address = address.Unmap()
			if !ok || s.ID.SourcePort == 0 || s.ID.DestinationPort != 0 || address.IsLoopback() {
				continue
			}
			r := Receiver{Local: netip.AddrPortFrom(address, s.ID.SourcePort)}
			if s.ID.Interface != 0 {
				i, err := net.InterfaceByIndex(int(s.ID.Interface))
				if err != nil || i.Flags&net.FlagLoopback != 0 {
					continue
				}
				r.Interface = i.Name
			}
			all = append(all, r)
		}
	}
	return all, nil
}
