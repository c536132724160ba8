//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Link is an interface of a host: one end of a cable, or a bridge.
type Link struct {
	Host *Host
	Name string
	Peer *Link // the other end; of a bridge, nil

	index int
	mac   net.HardwareAddr
	addrs []netip.Prefix // as given, in order
	up    bool           // there is another end, and it is up

	cut bool // see ConnectCut
}

// Addr4 returns the first IPv4 address given to the link, or the zero Addr.
func (k *Link) Addr4() netip.Addr { return k.addr(netip.Addr.Is4) }

// Addr6 returns the first IPv6 address given to the link, or the zero Addr.
func (k *Link) Addr6() netip.Addr { return k.addr(netip.Addr.Is6) }

func (k *Link) addr(is func(netip.Addr) bool) netip.Addr {
	k.Host.lab.mu.Lock()
	defer k.Host.lab.mu.Unlock()
	for _, p := range k.addrs {
		if is(p.Addr()) {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// Connect lays a cable between two hosts and returns its ends, that of a
// first. The end at a is named after b, and the other way round; a second
// cable between the two gets a 2 appended, and so on.
//
// In each prefix a gets the first address and b the next: of 192.0.2.0/24
// 192.0.2.1 and 192.0.2.2, of 192.0.2.10/24 192.0.2.10 and 192.0.2.11. The
// addresses can be used at once. Both ends compute every checksum, so that a
// capture shows what a real cable would carry.
func (l *Lab) Connect(a, b *Host, prefixes ...string) (atA, atB *Link) {
	return l.ConnectAs(a, b, b.Name, a.Name, prefixes...)
}

// ConnectAs is Connect with names for the two ends: the interface at a, and that at b.
func (l *Lab) ConnectAs(a, b *Host, nameAtA, nameAtB string, prefixes ...string) (atA, atB *Link) {
	atA, atB = &Link{Host: a}, &Link{Host: b}
	atA.Peer, atB.Peer = atB, atA
	l.Step(fmt.Sprintf("connect %q and %q", a.Name, b.Name), func() error {
		if a == b || a.lab != l || b.lab != l {
			return errors.New("a cable needs two hosts of this lab")
		}
		if err := lay(atA, atB, nameAtA, nameAtB); err != nil {
			return err
		}
		if err := address(atA, atB, prefixes); err != nil {
			return err
		}
		l.cables = append(l.cables, atA, atB)
		return nil
	})
	return atA, atB
}

// lay makes the two ends of a cable, names them as asked or with a number
// appended, and brings them up.
func lay(atA, atB *Link, nameAtA, nameAtB string) error {
	var err error
	if atA.Name, err = atA.Host.freeName(nameAtA); err != nil {
		return err
	}
	if atB.Name, err = atB.Host.freeName(nameAtB); err != nil {
		return err
	}
	// Born in its place, never in the machine's own network.
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: atA.Name},
		PeerName:      atB.Name,
		PeerNamespace: netlink.NsFd(atB.Host.NetNS()),
	}
	if err := atA.Host.nl.LinkAdd(veth); err != nil {
		return err
	}
	return errors.Join(atA.plug(), atB.plug())
}

// address adds addresses in each prefix to two ends, and waits until they
// can be used.
func address(atA, atB *Link, prefixes []string) error {
	for i, k := range []*Link{atA, atB} {
		for _, text := range prefixes {
			p, err := nth(text, i)
			if err != nil {
				return err
			}
			if err := k.addAddress(p); err != nil {
				return err
			}
		}
	}
	return errors.Join(atA.awaitUp(), atB.awaitUp())
}

// nth parses a prefix and returns it with its address i numbers on. A prefix
// without host bits starts at its first host.
func nth(text string, i int) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	addr := p.Addr()
	if p == p.Masked() {
		addr = addr.Next()
	}
	for range i {
		addr = addr.Next()
	}
	if !p.Contains(addr) {
		return netip.Prefix{}, fmt.Errorf("prefix %q has no room for two hosts", text)
	}
	return netip.PrefixFrom(addr, p.Bits()), nil
}

// Bridge makes the host a switch: the given links of the host become ports of
// a bridge of that name. The bridge is an interface of the host itself; with
// AddAddress it takes part in the network it carries.
func (l *Lab) Bridge(h *Host, name string, ports ...*Link) *Link {
	k := &Link{Host: h, Name: name}
	l.Step(fmt.Sprintf("bridge %q on host %q", name, h.Name), func() error {
		// Without a querier, snooping would in time starve neighbour discovery.
		snooping := false
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snooping}
		if err := h.nl.LinkAdd(bridge); err != nil {
			return err
		}
		for _, port := range ports {
			if port.Host != h {
				return fmt.Errorf("link %q is on host %q", port.Name, port.Host.Name)
			}
			if port.cut {
				return fmt.Errorf("link %q is cut, and carries IP packets between its two hosts only", port.Name)
			}
			link, err := h.nl.LinkByIndex(port.index)
			if err != nil {
				return err
			}
			if err := h.nl.LinkSetMaster(link, bridge); err != nil {
				return err
			}
		}
		if err := k.plug(); err != nil || len(ports) == 0 {
			return err
		}
		return k.awaitUp()
	})
	return k
}

// AddAddress adds addresses to the link, each with the length of its
// network: "192.0.2.7/24".
func (k *Link) AddAddress(addresses ...string) {
	k.Host.lab.Step(fmt.Sprintf("link %q of host %q: address", k.Name, k.Host.Name), func() error {
		for _, text := range addresses {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			if err := k.addAddress(p); err != nil {
				return err
			}
		}
		if !k.up {
			return nil // a bridge without ports never is
		}
		return k.awaitUp()
	})
}

// Renumber replaces the addresses of the link, as when a machine moves, or another
// one takes its place.
func (k *Link) Renumber(addresses ...string) {
	k.Host.lab.Step(fmt.Sprintf("link %q of host %q: renumber", k.Name, k.Host.Name), func() error {
		link, err := k.Host.nl.LinkByIndex(k.index)
		if err != nil {
			return err
		}
		// The new ones first: with its last address a link forgets its neighbours. (A
		// new one of the same network is a second one, which goes when the first one
		// goes, unless it may take its place.)
		if err := k.Host.writeSysctl("net/ipv4/conf/"+k.Name+"/promote_secondaries", "1"); err != nil {
			return err
		}
		old := k.addrs
		k.addrs = nil
		for _, text := range addresses {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return err
			}
			if err := k.addAddress(p); err != nil {
				return err
			}
		}
		for _, p := range old {
			if err := k.Host.nl.AddrDel(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
				return fmt.Errorf("address %s: %w", p, err)
			}
		}
		if !k.up {
			return nil
		}
		return k.awaitUp()
	})
}

// StaticNeighbours has both ends of the cable know each other's addresses, as
// administrators do with ip neighbour. No rule set that stops ARP or neighbour
// discovery, or has not yet come to allow it, keeps an answer off the wire then.
func (k *Link) StaticNeighbours() {
	k.Host.lab.Step(fmt.Sprintf("link %q of host %q: static neighbours", k.Name, k.Host.Name), func() error {
		for _, end := range []*Link{k, k.Peer} {
			for _, p := range end.Peer.addrs {
				err := end.Host.nl.NeighSet(&netlink.Neigh{LinkIndex: end.index, State: netlink.NUD_PERMANENT,
					IP: p.Addr().AsSlice(), HardwareAddr: end.Peer.mac})
				if err != nil {
					return fmt.Errorf("%s: %w", p.Addr(), err)
				}
			}
		}
		return nil
	})
}

// Route sends what is for a network ("0.0.0.0/0": for all others) by way of a
// neighbour's address.
func (h *Host) Route(network string, via netip.Addr) {
	h.lab.Step(fmt.Sprintf("host %q: route to %s via %s", h.Name, network, via), func() error {
		dst, err := netip.ParsePrefix(network)
		if err != nil {
			return err
		}
		return h.nl.RouteAdd(&netlink.Route{Dst: ipNet(dst.Masked()), Gw: via.AsSlice()})
	})
}

// freeName returns a name that no interface of the host has yet.
func (h *Host) freeName(want string) (string, error) {
	name := want
	for n := 2; ; n++ {
		_, err := h.nl.LinkByName(name)
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		name = want + strconv.Itoa(n)
	}
}

// plug brings a new interface up and reads what the kernel has made of it.
func (k *Link) plug() error {
	link, err := k.Host.nl.LinkByName(k.Name)
	if err != nil {
		return err
	}
	k.index, k.mac = link.Attrs().Index, link.Attrs().HardwareAddr
	if k.Peer != nil {
		if err := k.noOffload(); err != nil {
			return err
		}
	}
	if k.cut {
		// Before it is up, so that IPv6 does not begin to talk to neighbours.
		if err := k.Host.nl.LinkSetARPOff(link); err != nil {
			return err
		}
	}
	return k.Host.nl.LinkSetUp(link)
}

// awaitUp waits until the kernel has noticed that the other end is plugged in
// and up, and has taken all IPv6 addresses into use. It does both in the
// background. Until then it silently drops what is sent, and does not hear when
// a neighbour asks for an address; the first SYN is repeated only a second
// later.
func (k *Link) awaitUp() error {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		up, err := k.isUp()
		if err != nil {
			return err
		}
		if up {
			k.up = true
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("link %q of host %q is not up after %s", k.Name, k.Host.Name, patience)
		}
	}
}

func (k *Link) isUp() (bool, error) {
	link, err := k.Host.nl.LinkByIndex(k.index)
	if err != nil || link.Attrs().OperState != netlink.OperUp {
		return false, err
	}
	addrs, err := k.Host.nl.AddrList(link, netlink.FAMILY_V6)
	if errors.Is(err, netlink.ErrDumpInterrupted) {
		return false, nil // they are changing right now
	}
	for _, a := range addrs {
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			return false, nil
		}
	}
	return err == nil, err
}

// noOffload has the stack finish every packet before it sends it. By default
// it leaves checksums and the cutting of long segments to the device, and a
// veth device does neither: the packet is never on a real wire.
func (k *Link) noOffload() error {
	return inNetNS(k.Host.ns, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, feature := range []uint32{unix.ETHTOOL_STXCSUM, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
			value := struct{ cmd, data uint32 }{feature, 0}
			request := struct { // struct ifreq, with a pointer in its union
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte
			}{data: unsafe.Pointer(&value)}
			copy(request.name[:], k.Name)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL,
				uintptr(unsafe.Pointer(&request))); errno != 0 {
				return fmt.Errorf("turn off offload %#x of %q: %w", feature, k.Name, errno)
			}
		}
		return nil
	})
}

func (k *Link) addAddress(p netip.Prefix) error {
	// Not IFA_F_NODAD: such an address looks ready before it is, which is when
	// the host has joined its solicited-node group. An ordinary one is tentative
	// until then, and no longer where duplicate address detection is off.
	addr := &netlink.Addr{IPNet: ipNet(p), LinkIndex: k.index}
	if err := k.Host.nl.AddrAdd(nil, addr); err != nil {
		return fmt.Errorf("address %s: %w", p, err)
	}
	k.addrs = append(k.addrs, p)
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
