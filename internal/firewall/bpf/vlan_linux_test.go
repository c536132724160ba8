package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"postern/internal/key"
	"postern/internal/lab"
)

// TestVLAN: a frame with a VLAN's tag is for the VLAN's own interface, which the kernel
// gives the packet to later. VLAN 0 is none: a token in its frames, which only have a
// priority, reaches the tables with its code.
func TestVLAN(t *testing.T) {
	eachHook(t, func(t *testing.T) { tagged(newScene(t, nil, nil)) })
}

func tagged(s *scene) {
	s.t.Helper()
	l := lab.NewT(s.t)
	client, server := l.Connect(l.Host("client"), l.Host("server"), "192.0.2.0/24", "2001:db8::/64")
	at := &site{t: s.t, lab: l, server: server.Host}
	at.attach(s.program, server.Name)
	c := s.credential(0, 0)
	at.watch(s.program, c.Device, c.Door)
	var to netlink.Link
	at.do(func() (err error) { to, err = netlink.LinkByName(server.Name); return err })
	accepted := 0
	for _, vlan := range []uint16{0, 7} {
		for _, e := range envelopes {
			token := c.Token(s.fresh(), unbound, key.Lane4)
			p := e.packet(client.Addr4(), token[:])
			p.Dst = server.Addr4()
			frame := append([]byte{}, to.Attrs().HardwareAddr...)
			frame = append(frame, 2, 0, 0, 0, 0, 1, 0x81, 0, 5<<5|byte(vlan>>8), byte(vlan), 8, 0)
			frame, err := p.Append(frame)
			if err == nil {
				err = client.Host.Do(func() error { return sendFrame(client.Name, frame) })
			}
			if err != nil {
				s.t.Fatal(err)
			}
			if vlan == 0 {
				accepted++
			}
			at.seen(fmt.Sprintf("%v in VLAN %d", e, vlan), accepted)
			if outcome := s.outcome(); outcome != map[uint16]int{0: 0, 7: -1}[vlan] {
				s.t.Errorf("%v in VLAN %d counts %d", e, vlan, outcome)
			}
		}
	}
}

// TestOthers: what is junk to the program may be for another, here for the namespace of
// a macvlan that takes all frames of its interface.
func TestOthers(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		at, other := s.links[0], s.lab.Host("other")
		s.attach(s.load(nil), at.Name)
		s.do(func() error {
			l, err := netlink.LinkByName(at.Name)
			if err != nil {
				return err
			}
			return netlink.LinkAdd(&netlink.Macvlan{Mode: netlink.MACVLAN_MODE_PASSTHRU, LinkAttrs: netlink.LinkAttrs{
				Name: "through", ParentIndex: l.Attrs().Index, Namespace: netlink.NsFd(other.NetNS()),
			}})
		})
		if err := other.Do(func() error {
			l, err := netlink.LinkByName("through")
			if err != nil {
				return err
			}
			to, err := netlink.ParseAddr("192.0.2.100/24")
			return errors.Join(err, netlink.AddrAdd(l, to), netlink.LinkSetUp(l))
		}); err != nil {
			t.Fatal(err)
		}
		conn, err := other.ListenPacket(t.Context(), "udp4", fmt.Sprintf("192.0.2.100:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		junk := randomToken()
		s.send(datagram, netip.MustParseAddr("192.0.2.100"), junk)
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, _, err := conn.ReadFrom(b); err != nil || n != len(junk) {
			t.Errorf("%d bytes arrived (%v), want %d", n, err, len(junk))
		}
	})
}
