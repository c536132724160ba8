package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/packet"
	"postern/internal/paragraph"
)

// Advise warns of VRFs where the kernel does not look into their tables.
//
// What asks whether a packet is for this host (fib daddr type local) looks into the table of
// the VRF since Linux 6.16 ("nft_fib: consistent l3mdev handling"), which older kernels have
// taken over, and else into the one of the host's other addresses.
func (Backend) Advise() ([]firewall.Advice, error) {
	vrfs, err := host.VRFs()
	if err != nil || len(vrfs) == 0 {
		return nil, err
	}
	finds, err := findsInVRF()
	switch {
	case finds:
		return nil, nil
	case errors.Is(err, unix.EPERM) && os.Geteuid() != 0:
		return nil, err
	}
	a := firewall.Advice{
		Message: fmt.Sprintf("no door opens at an address in the VRF %s: this kernel's rules cannot tell that it is this host's", paragraph.List(vrfs)),
		Hints:   []string{"what is hidden there stays hidden; Linux 6.16 opens it"},
	}
	if err != nil {
		a.Message = fmt.Sprintf("doors may not open at an address in the VRF %s: trying whether this kernel's rules can tell that it is this host's failed: %v",
			paragraph.List(vrfs), err)
	}
	return []firewall.Advice{a}, nil
}

// findsInVRF reports whether rules can tell that an address in a VRF is this host's. It sends
// a datagram to one, in a network namespace that it makes and leaves behind.
func findsInVRF() (finds bool, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread never ends, and others take its namespace for the process's.
			finds, err = findsInVRF() // on another thread, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the thread, and with it the namespace, ends here.
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			finds, err = tryVRF()
		}
	}()
	<-done
	return finds, err
}

// tryVRF does so in the calling thread's namespace, which has nothing yet: by a cable to an
// interface in a VRF.
func tryVRF() (bool, error) {
	vrf := &netlink.Vrf{LinkAttrs: netlink.LinkAttrs{Name: "vrf"}, Table: 10}
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "from"}, PeerName: "to"}
	if err := errors.Join(netlink.LinkAdd(vrf), netlink.LinkAdd(cable)); err != nil {
		return false, err
	}
	from, err := netlink.LinkByName(cable.Name)
	if err != nil {
		return false, err
	}
	to, err := netlink.LinkByName(cable.PeerName)
	if err != nil {
		return false, err
	}
	datagram := &packet.Packet{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"), UDP: &packet.UDP{DstPort: 9}}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: datagram.Dst.AsSlice(), Mask: net.CIDRMask(24, 32)}}
	err = errors.Join(netlink.LinkSetMaster(to, vrf), netlink.LinkSetUp(vrf), netlink.LinkSetUp(to), netlink.LinkSetUp(from), netlink.AddrAdd(to, address))
	if err != nil {
		return false, err
	}

	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Name: "postern", Family: nftables.TableFamilyIPv4})
	chain := c.AddChain(&nftables.Chain{
		Name: "arrived", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	local := &rule{statements: []statement{toThisHost}}
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Counter{}}})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(local.exprs(), &expr.Counter{})})
	if err := c.Flush(); err != nil {
		return false, err
	}
	raw, err := datagram.Append(nil)
	if err != nil {
		return false, err
	}
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(socket)
	link := &unix.SockaddrLinklayer{Protocol: binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_IP)), Ifindex: from.Attrs().Index}
	link.Halen = uint8(copy(link.Addr[:], to.Attrs().HardwareAddr))
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if err := unix.Sendto(socket, raw, 0, link); err != nil {
			return false, err
		}
		rules, err := c.GetRules(table, chain)
		if err != nil {
			return false, err
		}
		if packetsOf(rules[0]) > 0 {
			return packetsOf(rules[1]) > 0, nil
		}
	}
	return false, errors.New("no packet arrived")
}

// packetsOf returns how many packets a rule's last expression has counted.
func packetsOf(r *nftables.Rule) uint64 { return r.Exprs[len(r.Exprs)-1].(*expr.Counter).Packets }
