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
			return nil, fmt.Errorf("asking the kernel who receives UDP: %w", lists(err))
		}
		for _, s := range sockets {
			if r, ok := receiver(s.ID); ok && s.ID.DestinationPort == 0 {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// Accepting returns the TCP sockets of this network namespace that others can
// connect to.
func Accepting() ([]Receiver, error) {
	var all []Receiver
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return nil, fmt.Errorf("asking the kernel who listens: %w", lists(err))
		}
		for _, s := range sockets {
			if r, ok := receiver(s.ID); ok && s.State == netlink.TCP_LISTEN {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// receiver returns where a socket receives; ok is false if others cannot reach it.
func receiver(id netlink.SocketID) (r Receiver, ok bool) {
	address, ok := netip.AddrFromSlice(id.Source)
	address = address.Unmap()
	if !ok || id.SourcePort == 0 || address.IsLoopback() {
		return r, false
	}
	r.Local = netip.AddrPortFrom(address, id.SourcePort)
	if id.Interface != 0 {
		i, err := net.InterfaceByIndex(int(id.Interface))
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			return r, false
		}
		r.Interface = i.Name
	}
	return r, true
}
