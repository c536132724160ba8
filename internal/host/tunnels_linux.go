package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/policy"
)

// Tunnels returns the tunnels of this network namespace that are up and whose packets
// have an IP protocol of their own. (Those in UDP have a socket: see Receiving. The
// kernel lists no links for L2TP straight in IP.)
func Tunnels() ([]Tunnel, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for its tunnels: %w", err)
	}
	return tunnels(links), nil
}

func tunnels(links []netlink.Link) []Tunnel {
	names := map[int]string{}
	for _, l := range links {
		names[l.Attrs().Index] = l.Attrs().Name
	}
	var all []Tunnel
	for _, l := range links {
		if l.Attrs().Flags&net.FlagUp == 0 { // as are the kernel's own gre0, tunl0, sit0
			continue
		}
		protocol := policy.GRE
		var local, remote net.IP
		encapsulation := uint16(netlink.FOU_ENCAP_UNSPEC) // others are in UDP
		inner := func(proto uint8, otherwise policy.Protocol) {
			if protocol = policy.Protocol(proto); proto == 0 { // any
				protocol = otherwise
			}
		}
		switch t := l.(type) {
		case *netlink.Gretun:
			local, remote, encapsulation = t.Local, t.Remote, t.EncapType
		case *netlink.Gretap:
			local, remote, encapsulation = t.Local, t.Remote, t.EncapType
		case *netlink.Iptun:
			local, remote, encapsulation = t.Local, t.Remote, t.EncapType
			inner(t.Proto, policy.IPIP)
		case *netlink.Sittun:
			local, remote, encapsulation = t.Local, t.Remote, t.EncapType
			inner(t.Proto, policy.SIT)
		case *netlink.Ip6tnl:
			local, remote, encapsulation = t.Local, t.Remote, t.EncapType
			inner(t.Proto, policy.SIT)
		case *netlink.GenericLink:
			if !slices.Contains([]string{"erspan", "ip6erspan"}, t.LinkType) {
				continue
			}
		default:
			continue
		}
		if encapsulation != netlink.FOU_ENCAP_UNSPEC {
			continue
		}
		all = append(all, Tunnel{
			Name: l.Attrs().Name, Protocol: protocol, Local: address(local), Remote: address(remote),
			Interface: names[l.Attrs().ParentIndex],
		})
	}
	return all
}

// address returns an address; the zero value for none, and for any.
func address(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if a = a.Unmap(); !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// RawProtocols returns the IP protocols, but for TCP, UDP, ICMP and group membership,
// that programs of this network namespace receive by raw sockets: routing daemons, say.
func RawProtocols() ([]policy.Protocol, error) {
	var all []policy.Protocol
	for _, name := range []string{"raw", "raw6"} {
		text, err := os.ReadFile("/proc/thread-self/net/" + name)
		if errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading the raw sockets: %w", err)
		}
		for _, p := range rawProtocols(string(text)) {
			if !slices.Contains(all, p) {
				all = append(all, p)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// rawProtocols reads /proc/net/raw, where the protocol stands in place of a port:
// " 118: 00000000:0059 …".
func rawProtocols(text string) []policy.Protocol {
	const igmp, sendOnly = 2, unix.IPPROTO_RAW
	var all []policy.Protocol
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		_, hex, _ := strings.Cut(fields[1], ":")
		n, err := strconv.ParseUint(hex, 16, 8)
		switch p := policy.Protocol(n); {
		case err != nil: // the heading
		case slices.Contains([]policy.Protocol{0, policy.TCP, policy.UDP, policy.ICMP, policy.ICMPv6, igmp, sendOnly}, p):
		default:
			all = append(all, p)
		}
	}
	return all
}

// IPsec returns the protocols, ESP and AH, in which this network namespace receives
// packets of IPsec that are not in UDP. Only root may ask.
func IPsec() ([]policy.Protocol, error) {
	states, err := netlink.XfrmStateList(netlink.FAMILY_ALL)
	if errors.Is(err, unix.EPROTONOSUPPORT) { // a kernel without IPsec
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking the kernel for IPsec's states: %w", err)
	}
	return ipsec(states, func(a netip.Addr) bool { _, here := Interface(a); return here }), nil
}

func ipsec(states []netlink.XfrmState, isHere func(netip.Addr) bool) []policy.Protocol {
	var all []policy.Protocol
	for _, s := range states {
		p := policy.Protocol(s.Proto)
		if (p == policy.ESP || p == policy.AH) && s.Encap == nil && isHere(address(s.Dst)) && !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}
