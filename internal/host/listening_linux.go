package host

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// Listening returns the TCP and UDP ports that programs of this network namespace
// listen on for others, sorted. For UDP, which has no listening, these are bound
// sockets without a peer; those on a port that the kernel picked for a client are
// left out.
func Listening() ([]policy.Port, error) {
	var ports []policy.Port
	add := func(protocol policy.Protocol, id netlink.SocketID) {
		address, ok := netip.AddrFromSlice(id.Source)
		port := policy.Port{Protocol: protocol, Number: id.SourcePort}
		if ok && !address.Unmap().IsLoopback() && port.Number != 0 && !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	first, last := Ephemeral()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		tcp, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return nil, fmt.Errorf("asking the kernel who listens: %w", lists(err))
		}
		for _, s := range tcp {
			if s.State == netlink.TCP_LISTEN {
				add(policy.TCP, s.ID)
			}
		}
		udp, err := netlink.SocketDiagUDP(family)
		if err != nil {
			return nil, fmt.Errorf("asking the kernel who listens: %w", lists(err))
		}
		for _, s := range udp {
			n := s.ID.SourcePort
			if s.ID.DestinationPort == 0 && (n < first || n > last) {
				add(policy.UDP, s.ID)
			}
		}
	}
	slices.SortFunc(ports, func(a, b policy.Port) int {
		return cmp.Or(cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Number, b.Number))
	})
	return ports, nil
}

// Ephemeral returns the range of ports that the kernel picks for clients.
func Ephemeral() (first, last uint16) {
	first, last = 32768, 60999 // as Linux has them
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		fmt.Sscan(string(text), &first, &last)
	}
	return first, last
}

// Forwarding returns the setting that must be changed for this host to forward
// packets of an address's family; ok is true if none need be.
func Forwarding(to netip.Addr) (missing Setting, ok bool) {
	missing = Setting{"net.ipv4.ip_forward", "1"}
	if to.Is6() {
		missing.Name = "net.ipv6.conf.all.forwarding"
	}
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(missing.Name, ".", "/"))
	return missing, err == nil && strings.TrimSpace(string(text)) != "0"
}
