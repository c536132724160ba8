package nftables

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// The strictest policy: nothing is allowed.
const strict = labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1, 2]}}}\n"

// TestNeighbours: the host and its neighbours find one another when their neighbour
// tables are empty. What the host sends first is answered.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.Greet(t, s.Client, 80, "outside")
	labtest.EchoUDP(t, s.Outside, 53)
	s.Up(strict)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		for range 2 {
			s.Knock(labtest.On(s.Outside, f), labtest.TCP(1), labtest.TCP(2))
			s.Settled()
			forgetNeighbours(t, s.Gateway)
			forgetNeighbours(t, s.Client)
			s.Dial(t, s.Client, netip.AddrPortFrom(labtest.On(s.Gate, f), 22), "ssh")
			forgetNeighbours(t, s.Gateway)
			forgetNeighbours(t, s.Client)
			s.Dial(t, s.Gateway, netip.AddrPortFrom(labtest.On(s.Outside, f), 80), "outside")
			conn, err := s.Gateway.Dial(labtest.Soon(t), "udp", netip.AddrPortFrom(labtest.On(s.Outside, f), 53))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			fmt.Fprint(conn, "question")
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				t.Errorf("the answer to the host's own query: %v", err)
			}
		}
	})
}

func forgetNeighbours(t *testing.T, h *lab.Host) {
	t.Helper()
	if err := h.Do(func() error {
		all, err := netlink.NeighList(0, 0)
		if err != nil {
			return err
		}
		for i := range all {
			if err := netlink.NeighDel(&all[i]); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestRouterAdvertisement: the host accepts a router's advertisement.
func TestRouterAdvertisement(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Gateway.Sysctl("net.ipv6.conf."+s.Gate.Name+".accept_ra", "1")
	s.Up(strict)
	prefix := netip.MustParseAddr("2001:db8:77::").As16()
	advertisement := &packet.Packet{
		Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("ff02::1"), TTL: 255,
		// Hop limit 64; the lifetime of a router, half an hour, is in Seq.
		ICMP: &packet.ICMP{Type: 134, ID: 64 << 8, Seq: 1800},
		Payload: append([]byte{0, 0, 0, 0, 0, 0, 0, 0, // how long, how often
			3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0}, prefix[:]...),
	}
	s.Send(advertisement)
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		route, address := false, false
		if err := s.Gateway.Do(func() error {
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
			for _, r := range routes {
				route = route || r.Gw.Equal(net.ParseIP("fe80::1"))
			}
			if err != nil {
				return err
			}
			addrs, err := netlink.AddrList(nil, netlink.FAMILY_V6)
			for _, a := range addrs {
				address = address || netip.MustParsePrefix("2001:db8:77::/64").Contains(netip.MustParseAddr(a.IP.String()))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if route && address {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no default route (%v) or no address (%v)", route, address)
		}
	}
}

// TestAddressServers: replies of DHCP servers are let in, to any destination
// address, if a program waits for them. Nothing else is let in this way.
func TestAddressServers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Up(strict)
	server, server6 := s.Outside.Addr4(), netip.MustParseAddr("fe80::53")
	replies := []struct {
		src, dst string
		from, to uint16
		want     labtest.Answer
	}{
		{server.String(), s.Gate.Addr4().String(), 67, 68, labtest.Received},
		{server.String(), "255.255.255.255", 67, 68, labtest.Received},
		{server.String(), s.Gate.Addr4().String(), 67, 69, labtest.Silence},
		{server.String(), s.Gate.Addr4().String(), 68, 68, labtest.Silence},
		{server6.String(), s.Gate.Addr6().String(), 547, 546, labtest.Received},
		{server6.String(), s.Gate.Addr6().String(), 547, 547, labtest.Silence},
		{server6.String(), s.Gate.Addr6().String(), 546, 546, labtest.Silence},
	}
	send := func(waiting bool) {
		for _, c := range replies {
			p := &packet.Packet{Src: netip.MustParseAddr(c.src), Dst: netip.MustParseAddr(c.dst),
				UDP: &packet.UDP{SrcPort: c.from, DstPort: c.to}, Payload: []byte("offer")}
			want := c.want
			if !waiting {
				want = labtest.Silence
			}
			if got := s.Ask(p); got != want {
				t.Errorf("%s, a program waiting: %v: %s, want %s", p, waiting, got, want)
			}
		}
	}
	send(false)
	for _, port := range []string{":68", ":69", ":546", ":547"} {
		conn, err := s.Gateway.ListenPacket(t.Context(), "udp", port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	send(true)
}

// TestMulticastQueries: the host reports its multicast groups to routers and
// switches. Without reports they would stop forwarding the groups to it.
func TestMulticastQueries(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.Up(strict)
	group := netip.MustParseAddr("239.1.2.3")
	var member *net.UDPConn
	if err := s.Gateway.Do(func() error {
		ifi, err := net.InterfaceByName(s.Gate.Name)
		if err != nil {
			return err
		}
		member, err = net.ListenMulticastUDP("udp4", ifi, &net.UDPAddr{IP: group.AsSlice(), Port: 9999})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer member.Close()
	reports, err := s.Outside.Capture(func(p *packet.Packet) bool {
		return p.Protocol == igmpProtocol || p.ICMP != nil && p.Src.Is6() && (p.ICMP.Type == 131 || p.ICMP.Type == 143)
	})
	if err != nil {
		t.Fatal(err)
	}
	await := func(what string) {
		t.Helper()
		for {
			got, err := reports.Next(labtest.Soon(t))
			if err != nil {
				t.Fatalf("%s is not answered: %v", what, err)
			}
			if !got.Out {
				return
			}
		}
	}
	// The reports of joining come by themselves, and again after a while.
	time.Sleep(time.Second)
	for range 3 { // more often than joining is reported
		reports.Drain()
		s.Send(&packet.Packet{Src: s.Outside.Addr4(), Dst: netip.MustParseAddr("224.0.0.1"), TTL: 1,
			V4:       packet.V4{Options: []byte{0x94, 4, 0, 0}}, // router alert
			Protocol: igmpProtocol, Payload: []byte{0x11, 1, 0xee, 0xfe, 0, 0, 0, 0}})
		await("an IGMP query")
	}
	for range 3 {
		reports.Drain()
		s.Send(&packet.Packet{Src: netip.MustParseAddr("fe80::1"), Dst: netip.MustParseAddr("ff02::1"), TTL: 1,
			V6:      packet.V6{Extensions: []packet.Extension{packet.HopByHop(5, 2, 0, 0, 1, 0)}}, // router alert
			ICMP:    &packet.ICMP{Type: 130, ID: 1},
			Payload: make([]byte, 16)})
		await("an MLD query")
	}
}

const igmpProtocol packet.Protocol = 2

// TestPathMTU: a narrow hop on the way asks for smaller packets, and is heard,
// also for a connection that conntrack does not know.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	l := lab.NewT(t)
	client, near, far, gw := l.Host("client"), l.Host("near"), l.Host("far"), l.Host("gw")
	gw.Sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")
	_, atNear := l.Connect(client, near, "10.1.0.0/24", "2001:db8:1::/64")
	narrow, narrow2 := l.Connect(near, far, "10.2.0.0/24", "2001:db8:2::/64")
	atFar, atGW := l.Connect(far, gw, "192.0.2.0/24", "2001:db8::/64")
	for _, hop := range []struct {
		h   *lab.Host
		via *lab.Link
	}{{client, atNear}, {near, narrow2}, {gw, atFar}} {
		hop.h.Route("0.0.0.0/0", hop.via.Addr4())
		hop.h.Route("::/0", hop.via.Addr6())
	}
	far.Route("10.1.0.0/24", narrow.Addr4())
	far.Route("2001:db8:1::/64", narrow.Addr6())
	for _, h := range []*lab.Host{near, far} {
		h.Sysctl("net.ipv4.ip_forward", "1")
		h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	for _, k := range []*lab.Link{narrow, narrow2} {
		if err := k.Host.Do(func() error {
			link, err := netlink.LinkByName(k.Name)
			if err != nil {
				return err
			}
			return netlink.LinkSetMTU(link, 1300)
		}); err != nil {
			t.Fatal(err)
		}
	}
	labtest.Greet(t, gw, 22, "ssh")
	s := &labtest.Scene{Lab: l, T: t, Backend: Backend{}, Client: client, Gateway: gw, CPU: labtest.CPUs(t)[0], Port: 20000}
	old := map[labtest.Family]*labtest.Session{}
	for _, f := range labtest.Families {
		old[f] = s.Dial(t, client, netip.AddrPortFrom(labtest.On(atGW, f), 22), "ssh")
	}
	s.Up(strict)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		transfer(t, old[f])
		for _, port := range []uint16{1, 2} {
			if conn, err := client.Dial(labtest.Within(t, 100*time.Millisecond), "tcp", netip.AddrPortFrom(labtest.On(atGW, f), port)); err == nil {
				conn.Close()
				t.Errorf("the knock at %d was answered", port)
			}
		}
		transfer(t, s.Dial(t, client, netip.AddrPortFrom(labtest.On(atGW, f), 22), "ssh"))
	})
}

// transfer sends 300,000 octets over a session, which echoes them in full packets.
func transfer(t *testing.T, c *labtest.Session) {
	t.Helper()
	const size = 300_000
	c.SetDeadline(time.Now().Add(30 * time.Second))
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(make([]byte, size))
		sent <- err
	}()
	if n, err := io.CopyN(io.Discard, c.Lines, size); err != nil {
		t.Errorf("%d of %d octets came back: %v", n, size, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
