package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/key"
	"postern/internal/lab"
)

// over makes an interface on top of another, on the host of the thread, and gives it an
// address.
func over(kind, below, name, address string) error {
	l, err := netlink.LinkByName(below)
	if err != nil {
		return err
	}
	a := netlink.LinkAttrs{Name: name, ParentIndex: l.Attrs().Index}
	var upper netlink.Link
	switch kind {
	case "vlan":
		upper = &netlink.Vlan{LinkAttrs: a, VlanId: 5}
	case "macvlan":
		upper = &netlink.Macvlan{LinkAttrs: a, Mode: netlink.MACVLAN_MODE_BRIDGE}
	case "bond":
		bond := netlink.NewLinkBond(netlink.LinkAttrs{Name: name})
		bond.Mode = netlink.BOND_MODE_ACTIVE_BACKUP
		upper = bond
	}
	if err := netlink.LinkAdd(upper); err != nil {
		return err
	}
	if kind == "bond" {
		if err := errors.Join(netlink.LinkSetDown(l), netlink.LinkSetMaster(l, upper), netlink.LinkSetUp(l)); err != nil {
			return err
		}
	}
	to, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(upper, to), netlink.LinkSetUp(upper))
}

// awaitUp returns an interface of the host of the thread once the kernel has it up,
// which a worker sees to after its carrier has come.
func awaitUp(name string) (netlink.Link, error) {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		l, err := netlink.LinkByName(name)
		if err != nil || l.Attrs().OperState == netlink.OperUp {
			return l, err
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%q is %v", name, l.Attrs().OperState)
		}
	}
}

// TestStacked: a token that arrives on an interface on top of another is accepted,
// once, whether the program is on that, or on both. Below a VLAN it sees the tag.
func TestStacked(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		for _, kind := range []string{"vlan", "macvlan", "bond"} {
			for _, where := range [][]string{{"upper"}, {"lower", "upper"}, {"lower"}} {
				t.Run(kind+" "+strings.Join(where, " "), func(t *testing.T) {
					s := newSite(t)
					lower := s.links[0]
					err := s.server.Do(func() error { return over(kind, lower.Name, "upper", "198.51.100.1/24") })
					if errors.Is(err, unix.EOPNOTSUPP) {
						t.Skip("this kernel has no " + kind)
					}
					client := func() error {
						if kind == "vlan" {
							return over(kind, lower.Peer.Name, "upper", "198.51.100.2/24")
						}
						l, err := netlink.LinkByName(lower.Peer.Name)
						if err != nil {
							return err
						}
						to, err := netlink.ParseAddr("198.51.100.2/24")
						if err != nil {
							return err
						}
						return netlink.AddrAdd(l, to)
					}
					if err := errors.Join(err, lower.Peer.Host.Do(client)); err != nil {
						t.Fatal(err)
					}
					p := s.load(nil)
					names := slices.Clone(where)
					for i, name := range names {
						if name == "lower" {
							names[i] = lower.Name
						}
					}
					s.attach(p, names...)
					from := lower.Peer.Name
					if kind == "vlan" {
						from = "upper"
					}
					s.neighbour(from, "upper", "198.51.100.1")
					c := s.credential(0, doors[0])
					s.watch(p, c.Device, c.Door)
					s.send(datagram, netip.MustParseAddr("198.51.100.1"), c.Token(s.later(), unbound, key.Lane4))
					want := 1
					if kind == "vlan" && len(where) == 1 && where[0] == "lower" {
						want = 0
					}
					s.seen(fmt.Sprint(kind, where), want)
					if counts, err := s.find().Counts(); err != nil || counts != (Counts{uint64(want)}) {
						t.Errorf("counted %v (%v)", counts, err)
					}
				})
			}
		}
	})
}

// neighbour tells the first client, at one of its interfaces, the link address of one of
// the server's, once both are up. Were it to ask, the answer might come later than Settle
// waits: a macvlan hears broadcasts from a worker of the kernel
// (macvlan_process_broadcast, Linux 6.18).
func (s *site) neighbour(from, to, address string) {
	s.t.Helper()
	var at netlink.Link
	s.do(func() (err error) { at, err = awaitUp(to); return err })
	if err := s.links[0].Peer.Host.Do(func() error {
		l, err := awaitUp(from)
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: net.ParseIP(address), HardwareAddr: at.Attrs().HardwareAddr,
		})
	}); err != nil {
		s.t.Fatal(err)
	}
}

// FuzzProgram: the program says what the verifier does, of whatever bytes a frame is
// made of.
func FuzzProgram(f *testing.F) {
	if !lab.RealRoot() {
		f.Skip("only root of the machine may load BPF programs")
	}
	s := newScene(f, nil, nil)
	for _, e := range envelopes {
		for _, from := range []netip.Addr{sender4, sender6} {
			token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
			f.Add(frame(f, e.packet(from, token[:])))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < ethernet || len(b) > 1500 {
			return
		}
		s.t = t
		s.judge("fuzzed", b)
	})
}
