package nftables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// A linkScene is a client and a gateway with two cables between them.
type linkScene struct {
	*testing.T
	linkKind
	lab             *lab.Lab
	client, gateway *lab.Host

	address, server map[labtest.Family]netip.Addr // of the client, and of the gateway
	shut            bool                          // no door opens to anybody, nor an allowed service
	others          int                           // how many newSource has returned
	port            uint16
}

const (
	floodFrom, floodTo = 10000, 20000 // the ports of floods
	ownPort            = 443
	hiddenPort         = 22
	sources            = 20 // more than the script takes
)

func newLinkScene(t *testing.T, k linkKind) *linkScene {
	t.Helper()
	s := &linkScene{T: t, linkKind: k, lab: lab.NewT(t), address: map[labtest.Family]netip.Addr{}, server: map[labtest.Family]netip.Addr{}}
	if s.peer == "" {
		s.peer = "c0"
	}
	s.client, s.gateway = s.lab.Host("client"), s.lab.Host("gw")
	for i := range 2 {
		s.lab.ConnectAs(s.client, s.gateway, fmt.Sprint("c", i), fmt.Sprint("g", i))
	}
	for f, a := range map[labtest.Family]string{labtest.IPv4: "203.0.113.1", labtest.IPv6: "2001:db8:77::1"} {
		s.address[f] = netip.MustParseAddr(a)
		s.server[f] = s.address[f].Next()
	}
	// It forwards, so that the kernel's routes are asked about each packet.
	s.gateway.Sysctl("net.ipv4.ip_forward", "1")
	s.gateway.Sysctl("net.ipv4.conf.all.arp_ignore", "1") // each address by its interface alone
	s.gateway.Sysctl("net.ipv6.conf.all.forwarding", "1")
	return s
}

// run runs a command on a host, and returns what it prints.
func (s *linkScene) run(h *lab.Host, input, name string, args ...string) (string, error) {
	c := h.Command(s.Context(), name, args...)
	c.Stdin = strings.NewReader(input)
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %q: %w: %s", name, append(args, input), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (s *linkScene) must(h *lab.Host, input, name string, args ...string) string {
	s.Helper()
	out, err := s.run(h, input, name, args...)
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// lay makes the interfaces, and gives them addresses. It ends the test if this kernel has none of
// the kind.
func (s *linkScene) lay() {
	s.Helper()
	for h, text := range map[*lab.Host]string{s.gateway: s.linkKind.gateway, s.client: s.linkKind.client} {
		_, err := s.run(h, text, "ip", "-batch", "-")
		if err == nil {
			continue
		}
		if lacks := strings.Contains(err.Error(), "not supported") || strings.Contains(err.Error(), "Unknown device type"); lacks && !*everyLink {
			s.Skipf("this kernel lacks %s: %v", s.name, err)
		}
		s.Fatal(err)
	}
	if s.vrf != "" {
		finds, err := findsInVRF()
		if err != nil {
			s.Fatal(err)
		}
		s.shut = !finds
	}
	for _, sysctl := range []string{"iptables", "ip6tables"} {
		if strings.Contains(s.linkKind.gateway, "type bridge") {
			s.gateway.Sysctl("net.bridge.bridge-nf-call-"+sysctl, fmt.Sprint(map[bool]int{true: 1}[s.filter]))
		}
	}
	if s.top == "wg0" {
		s.wireguard()
	}
	s.up()
}

// wireguard makes the tunnel of the two interfaces.
func (s *linkScene) wireguard() {
	s.Helper()
	hosts, outer := []*lab.Host{s.client, s.gateway}, []string{"10.255.0.1", "10.255.0.2"}
	var private, public []string
	for range hosts {
		secret := s.must(s.gateway, "", "wg", "genkey")
		private, public = append(private, secret), append(public, s.must(s.gateway, secret, "wg", "pubkey"))
	}
	for i, h := range hosts {
		s.must(h, fmt.Sprintf("addr replace %s/24 dev %s\n", outer[i], []string{"c0", "g0"}[i]), "ip", "-batch", "-")
		s.must(h, private[i], "wg", "set", "wg0", "listen-port", "51820", "private-key", "/dev/stdin",
			"peer", public[1-i], "allowed-ips", "0.0.0.0/0,::/0", "endpoint", outer[1-i]+":51820")
	}
}

// up gives the interfaces their addresses.
func (s *linkScene) up() {
	s.Helper()
	for _, end := range []struct {
		h        *lab.Host
		name     string
		at, peer map[labtest.Family]netip.Addr
	}{{s.client, s.peer, s.address, s.server}, {s.gateway, s.top, s.server, s.address}} {
		text := fmt.Sprintf("link set %s up\naddr replace %s/24 dev %s\naddr replace %s/64 dev %s nodad\n",
			end.name, end.at[labtest.IPv4], end.name, end.at[labtest.IPv6], end.name)
		if end.h == s.gateway {
			where := " dev " + end.name
			if s.vrf != "" {
				where += " table 10"
			}
			text += fmt.Sprintf("route replace 198.51.0.0/16 via %s%s\nroute replace 3fff:c::/32 via %s%s\n",
				end.peer[labtest.IPv4], where, end.peer[labtest.IPv6], where)
		}
		if end.h == s.client {
			for n := 1; n <= sources; n++ {
				text += fmt.Sprintf("addr replace %s/32 dev lo\naddr replace %s/128 dev lo nodad\n", source(labtest.IPv4, n), source(labtest.IPv6, n))
			}
		}
		s.must(end.h, text, "ip", "-batch", "-")
	}
}

// await waits until packets of both families come through.
func (s *linkScene) await() {
	s.Helper()
	for _, f := range labtest.Families {
		for deadline := time.Now().Add(20 * time.Second); ; {
			_, err := s.run(s.client, "", "ping", "-c", "1", "-W", "1", s.server[f].String())
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				s.Fatal(err)
			}
		}
	}
}

// source returns the client's address of a number, beside the one of its interface.
func source(f labtest.Family, n int) netip.Addr {
	if f == labtest.IPv4 {
		return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)})
	}
	a := netip.MustParseAddr("3fff:c::1").As16()
	a[5] = byte(n) // with a budget of its own
	return netip.AddrFrom16(a)
}

// newSource returns an address of the client's that has sent nothing yet.
func (s *linkScene) newSource(f labtest.Family) netip.Addr {
	s.others++
	return source(f, s.others)
}

// packet returns a packet to the gateway that begins something.
func (s *linkScene) packet(from netip.Addr, to policy.Port, payload []byte) *packet.Packet {
	s.port++
	p := &packet.Packet{Src: from, Dst: s.server[labtest.Of(from)], Payload: payload}
	switch port := 20000 + s.port%10000; to.Protocol {
	case policy.TCP:
		p.TCP = &packet.TCP{SrcPort: port, DstPort: to.Number, Seq: uint32(s.port), Flags: packet.SYN, Window: 64240}
	case policy.UDP:
		p.UDP = &packet.UDP{SrcPort: port, DstPort: to.Number}
	default:
		p.ICMP = &packet.ICMP{Type: packet.EchoRequest, ID: port}
		if from.Is6() {
			p.ICMP.Type = packet.EchoRequestV6
		}
	}
	return p
}

// send sends packets as they are, by the client's routes.
func (s *linkScene) send(packets ...*packet.Packet) {
	s.Helper()
	if err := lab.OnCPU(labtest.CPUs(s)[0], func() error {
		return s.client.Do(func() error {
			var fds [2]int
			for i, family := range []int{unix.AF_INET, unix.AF_INET6} {
				fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
				if err != nil {
					return err
				}
				defer unix.Close(fd)
				fds[i] = fd
			}
			for _, p := range packets {
				b, err := p.Append(nil)
				if err != nil {
					return err
				}
				fd, to := fds[0], unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte(p.Dst.AsSlice()[:4])})
				if p.Dst.Is6() {
					fd, to = fds[1], &unix.SockaddrInet6{Addr: p.Dst.As16()}
				}
				for err = unix.ENOBUFS; err == unix.ENOBUFS; {
					err = unix.Sendto(fd, b, 0, to)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
	}); err != nil {
		s.Fatal(err)
	}
}

// flood sends SYNs and datagrams to ports where nothing is, far more than count, and returns how
// many. They are worked on when it returns.
func (s *linkScene) flood(from netip.Addr, rounds int) (n int) {
	s.Helper()
	for i := range rounds {
		var all []*packet.Packet
		for k := range 12 {
			port := uint16(floodFrom + 12*i + k)
			all = append(all, s.packet(from, labtest.TCP(port), nil), s.packet(from, labtest.UDP(port), nil))
		}
		s.send(all...)
		n += len(all)
		s.settle()
		time.Sleep(time.Millisecond) // so long a source may still have progress
	}
	return n
}

// settle waits until what was sent has been worked on. WireGuard does that in workers, in order.
func (s *linkScene) settle() {
	s.Helper()
	if err := s.lab.Settle(); err != nil {
		s.Fatal(err)
	}
	if s.top == "wg0" {
		s.must(s.client, "", "ping", "-c", "1", "-W", "5", s.server[labtest.IPv4].String())
	}
}

// connect connects to a port of the gateway, and returns what comes of it.
func (s *linkScene) connect(from netip.Addr, port uint16) string {
	s.Helper()
	s.settle()
	var conn net.Conn
	err := s.client.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(s.Context(), 900*time.Millisecond) // a lost SYN is sent again after a second
		defer cancel()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}}
		conn, err = d.DialContext(ctx, "tcp", netip.AddrPortFrom(s.server[labtest.Of(from)], port).String())
		return err
	})
	if err == nil {
		conn.Close()
		return "connected"
	}
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		return "silence"
	}
	return err.Error()
}

// ask returns what a host gets from the other one for a few questions.
func ask(conn net.Conn) string {
	for i := range 5 {
		question, answer := []byte{byte(i), 'q'}, make([]byte, 10)
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Write(question); err != nil {
			return err.Error()
		}
		if n, err := conn.Read(answer); err != nil || !slices.Equal(answer[:n], question) {
			return fmt.Sprintf("answer %d is %q: %v", i, answer[:n], err)
		}
	}
	return "answered"
}

// control returns what binds a socket of the gateway to the VRF.
func (s *linkScene) control(h *lab.Host) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) (err error) {
		if h != s.gateway || s.vrf == "" {
			return nil
		}
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), s.vrf) }), err)
	}
}

// serve echoes at a port of a host what comes there.
func (s *linkScene) serve(h *lab.Host, port uint16) {
	s.Helper()
	l := net.ListenConfig{Control: s.control(h)}
	at := fmt.Sprintf(":%d", port)
	if err := h.Do(func() error {
		tcp, err := l.Listen(s.Context(), "tcp", at)
		if err != nil {
			return err
		}
		s.Cleanup(func() { tcp.Close() })
		go func() {
			for {
				conn, err := tcp.Accept()
				if err != nil {
					return
				}
				go func() {
					defer conn.Close()
					io.Copy(conn, conn)
				}()
			}
		}()
		udp, err := l.ListenPacket(s.Context(), "udp", at)
		if err != nil {
			return err
		}
		s.Cleanup(func() { udp.Close() })
		go func() {
			b := make([]byte, 2000)
			for {
				n, from, err := udp.ReadFrom(b)
				if err != nil {
					return
				}
				udp.WriteTo(b[:n], from)
			}
		}()
		return nil
	}); err != nil {
		s.Fatal(err)
	}
}

// own are the gateway's own connections with a client.
type own struct {
	what string
	try  func() string
}

// begin begins what goes on during floods: connections and questions each way, and pings.
func (s *linkScene) begin(f labtest.Family) (all []own) {
	s.Helper()
	dial := func(h *lab.Host, network string, to netip.AddrPort) net.Conn {
		s.Helper()
		var conn net.Conn
		if err := h.Do(func() (err error) {
			d := net.Dialer{Timeout: 10 * time.Second, Control: s.control(h)}
			conn, err = d.DialContext(s.Context(), network, to.String())
			return err
		}); err != nil {
			s.Fatal(err)
		}
		s.Cleanup(func() { conn.Close() })
		return conn
	}
	client, server := s.address[f], s.server[f]
	for _, c := range []struct {
		what    string
		from    *lab.Host
		network string
		to      netip.AddrPort
	}{
		{"a connection to it", s.client, "tcp", netip.AddrPortFrom(server, ownPort)},
		{"a connection of its own", s.gateway, "tcp", netip.AddrPortFrom(client, ownPort)},
		{"datagrams to it", s.client, "udp", netip.AddrPortFrom(server, ownPort)},
		{"its own questions", s.gateway, "udp", netip.AddrPortFrom(client, 53)},
	} {
		conn := dial(c.from, c.network, c.to)
		all = append(all, own{c.what, func() string { return ask(conn) }})
	}
	ping := func(what string, h *lab.Host, to netip.Addr, args ...string) {
		all = append(all, own{what, func() string {
			if _, err := s.run(h, "", "ping", append(args, "-c", "3", "-i", "0.01", "-W", "2", to.String())...); err != nil {
				return err.Error()
			}
			return "answered"
		}})
	}
	ping("pings to it", s.client, server)
	if s.vrf != "" {
		ping("its own pings", s.gateway, client, "-I", s.vrf)
	} else {
		ping("its own pings", s.gateway, client)
	}
	return all
}

// count returns what a counter of the test's own table has counted.
func (s *linkScene) count(name string) (n int) {
	s.Helper()
	text := s.must(s.gateway, "", "nft", "list counter inet watch "+name)
	if _, err := fmt.Sscanf(text[strings.Index(text, "packets"):], "packets %d", &n); err != nil {
		s.Fatal(err)
	}
	return n
}

// look does what the watchdog does every second.
func (s *linkScene) look(k firewall.Keeper, m *automaton.Machine) {
	s.Helper()
	if err := s.gateway.Do(func() error { return k.(firewall.KeyVerifier).VerifyEverywhere(m) }); err != nil {
		s.Fatal(err)
	}
}

// attached checks that the program is attached to all interfaces but loopback and the ports of
// bonds, and packets are counted early where they are to be.
func (s *linkScene) attached(what string, early bool) {
	s.Helper()
	var all, attached []string
	if err := s.gateway.Do(func() error {
		running, err := bpf.Find()
		if err != nil {
			return err
		}
		defer running.Close()
		for _, i := range running.Interfaces() {
			if i.Name != "lo" && !i.Bonded {
				all = append(all, i.Name)
			}
			if i.Attached {
				attached = append(attached, i.Name)
			}
		}
		return nil
	}); err != nil {
		s.Fatal(err)
	}
	if !slices.Equal(all, attached) {
		s.Errorf("%s: attached to %q of %q", what, attached, all)
	}
	var want []string
	for _, name := range all {
		if early && !slices.Contains(s.not, name) {
			want = append(want, name)
		}
	}
	status := labtest.Inspect(s, s.gateway, Backend{})
	if status.Early == nil {
		status.Early = &firewall.EarlyDrop{}
	}
	if !slices.Equal(status.Early.Interfaces, want) {
		s.Errorf("%s: packets are counted at %q, want %q", what, status.Early.Interfaces, want)
	}
}
