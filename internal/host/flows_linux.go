package host

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Flow is a TCP connection of this host.
type Flow struct {
	Local, Remote netip.AddrPort
}

// A Stage is how far a flow has come.
type Stage int

const (
	Open     Stage = iota
	HalfOpen       // the other side has not yet answered this one's SYN-ACK, or SYN
)

// Flows are those of one moment.
type Flows map[Flow]Stage

// Without returns the flows that are not among others.
func (f Flows) Without(others Flows) Flows {
	rest := maps.Clone(f)
	for flow := range others {
		delete(rest, flow)
	}
	return rest
}

// ErrNoSocketList is the error of a kernel that cannot list TCP connections.
var ErrNoSocketList = errors.New("the kernel cannot list TCP connections: it has no module tcp_diag")

// Connections asks the kernel for the TCP connections of this network namespace that
// are not with itself, by sock_diag(7).
func Connections() (Flows, error) {
	found := Flows{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if errors.Is(err, unix.ENOENT) { // sock_diag's word for a protocol that it lacks
			return nil, ErrNoSocketList
		}
		if err != nil {
			return nil, fmt.Errorf("asking the kernel for its TCP connections: %w", err)
		}
		for _, s := range sockets {
			stage := Open
			switch s.State {
			case netlink.TCP_LISTEN, netlink.TCP_TIME_WAIT:
				continue
			case netlink.TCP_SYN_SENT, netlink.TCP_SYN_RECV, netlink.TCP_NEW_SYN_REC:
				stage = HalfOpen
			}
			// An IPv6 socket may carry IPv4.
			local, ok := netip.AddrFromSlice(s.ID.Source)
			remote, ok2 := netip.AddrFromSlice(s.ID.Destination)
			if !ok || !ok2 || remote.Unmap().IsLoopback() || remote.IsUnspecified() {
				continue
			}
			found[Flow{
				Local:  netip.AddrPortFrom(local.Unmap(), s.ID.SourcePort),
				Remote: netip.AddrPortFrom(remote.Unmap(), s.ID.DestinationPort),
			}] = stage
		}
	}
	return found, nil
}
