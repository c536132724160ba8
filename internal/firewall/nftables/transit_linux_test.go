package nftables

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

// transitPolicies hide, on a machine in the middle, ports that others use on the
// machines around it.
var transitPolicies = map[string]string{
	"closed": labtest.Closed + "cover: reset\nsource: {ipv4: 24, ipv6: 64}\n" + transitDoors,
	"guard":  labtest.Guard + transitDoors,
}

const transitDoors = `
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}, forfeit: true}
  name: {service: udp/53, knock: {sequence: [1, icmp/echo, udp/3]}}
  inner: {service: tcp/80, forward: "10.9.9.9:80", masquerade: true, knock: {sequence: [1, 4]}}
  inner6: {service: tcp/81, forward: "[2001:db8:9::9]:80", masquerade: true, knock: {sequence: [1, 5]}}
`

// A middle is a machine between two others.
type middle struct {
	*lab.Lab
	t         *testing.T
	a, gw, b  *lab.Host
	atA, atB  *lab.Link
	sender    *lab.Sender
	arriving  *lab.Capture // at b
	returning *lab.Capture // at a
}

// TestRouter: what a router forwards is as it was without us.
func TestRouter(t *testing.T) {
	t.Parallel()
	for name, text := range transitPolicies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.NewT(t)
			m := &middle{Lab: l, t: t, a: l.Host("a"), gw: l.Host("gw"), b: l.Host("b")}
			var west, east *lab.Link
			m.atA, west = l.Connect(m.a, m.gw, "192.0.2.0/24", "2001:db8::/64")
			east, m.atB = l.Connect(m.gw, m.b, "10.0.0.0/24", "2001:db8:1::/64")
			for _, r := range []struct {
				h   *lab.Host
				net string
				via netip.Addr
			}{
				{m.a, "10.0.0.0/24", west.Addr4()}, {m.a, "2001:db8:1::/64", west.Addr6()},
				{m.b, "192.0.2.0/24", east.Addr4()}, {m.b, "2001:db8::/64", east.Addr6()},
			} {
				r.h.Route(r.net, r.via)
			}
			m.gw.Sysctl("net.ipv4.ip_forward", "1")
			m.gw.Sysctl("net.ipv6.conf.all.forwarding", "1")
			m.unchanged(labtest.Compile(t, Backend{}, text))
		})
	}
}

// TestBridge: what a bridge carries is as it was without us, also where the
// bridge shows it to the rules for IP packets.
func TestBridge(t *testing.T) {
	t.Parallel()
	for name, text := range transitPolicies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := lab.NewT(t)
			m := &middle{Lab: l, t: t, a: l.Host("a"), gw: l.Host("gw"), b: l.Host("b")}
			var west, east *lab.Link
			m.atA, west = l.Connect(m.a, m.gw)
			m.atB, east = l.Connect(m.b, m.gw)
			m.atA.AddAddress("192.0.2.1/24", "2001:db8::1/64")
			m.atB.AddAddress("192.0.2.2/24", "2001:db8::2/64")
			l.Bridge(m.gw, "br0", west, east).AddAddress("192.0.2.3/24", "2001:db8::3/64")
			// The bridge's own switches are there only with br_netfilter.
			_, err := os.Stat("/proc/sys/net/bridge")
			if errors.Is(err, fs.ErrNotExist) {
				t.Log("this kernel has no br_netfilter loaded (modprobe br_netfilter): only a plain bridge was tried")
			} else {
				m.gw.Sysctl("net.bridge.bridge-nf-call-iptables", "1")
				m.gw.Sysctl("net.bridge.bridge-nf-call-ip6tables", "1")
			}
			s := &scene{&labtest.Scene{Lab: l, T: t, Gateway: m.gw, CPU: labtest.CPUs(t)[0], Port: 30000}}
			s.nft("table inet judge {\n\tcounter shown { }\n\tchain c {\n" +
				"\t\ttype filter hook prerouting priority -400; ip daddr 192.0.2.2 counter name shown\n\t}\n}\n")
			m.unchanged(labtest.Compile(t, Backend{}, text))
			if n := s.counter(t, "shown"); err == nil && n == 0 {
				t.Error("the bridge showed the rules no packet")
			}

			// The machine itself hides its services as any other does.
			labtest.Greet(t, m.gw, 22, "ssh")
			s.Sender, s.Wire, s.Datagrams = m.sender, m.returning, m.arriving
			for _, dst := range []string{"192.0.2.3", "2001:db8::3"} {
				dst := netip.MustParseAddr(dst)
				src := labtest.On(m.atA, labtest.Of(dst))
				if got := s.Ask(s.Opening(src, dst, labtest.TCP(22))); got != labtest.RST {
					t.Errorf("%s on the bridge: got %s, want %s", dst, got, labtest.RST)
				}
				s.Send(s.Opening(src, dst, labtest.TCP(1)), s.Opening(src, dst, labtest.TCP(2)))
				s.Dial(t, m.a, netip.AddrPortFrom(dst, 22), "ssh")
			}
		})
	}
}

// unchanged runs traffic of all kinds through the machine in the middle, without
// rules and with them.
func (m *middle) unchanged(machine *automaton.Machine) {
	t := m.t
	var err error
	if m.sender, err = m.atA.Sender(); err != nil {
		t.Fatal(err)
	}
	if m.arriving, err = m.atB.Capture(nil); err != nil {
		t.Fatal(err)
	}
	if m.returning, err = m.atA.Capture(nil); err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{1, 22, 80} {
		labtest.Greet(t, m.b, port, "b")
	}
	labtest.EchoUDP(t, m.atB, 53)
	s := &labtest.Scene{Lab: m.Lab, T: t}

	var old []*labtest.Session
	for _, f := range labtest.Families {
		for range 2 { // one speaks soon, the other after a while
			old = append(old, s.Dial(t, m.a, netip.AddrPortFrom(labtest.On(m.atB, f), 22), "b"))
		}
	}
	before := m.through()
	if err := m.gw.Do(func() error { return Backend{}.Apply(machine) }); err != nil {
		t.Fatal(err)
	}
	for _, c := range old[:2] {
		if err := c.Talk(); err != nil {
			t.Errorf("a connection through the machine stopped: %v", err)
		}
	}
	for range 2 {
		after := m.through()
		for i := range before {
			if !bytes.Equal(before[i].raw, after[i].raw) {
				t.Errorf("%s arrived as %x without rules, and as %x with them", before[i].what, before[i].raw, after[i].raw)
			}
		}
	}
	for _, c := range old {
		if err := c.Talk(); err != nil {
			t.Errorf("a connection through the machine stopped: %v", err)
		}
	}
	for _, f := range labtest.Families {
		for _, port := range []uint16{1, 22, 80} {
			if err := s.Dial(t, m.a, netip.AddrPortFrom(labtest.On(m.atB, f), port), "b").Talk(); err != nil {
				t.Errorf("a new connection through the machine: %v", err)
			}
		}
		conn, err := m.a.Dial(labtest.Soon(t), "udp", netip.AddrPortFrom(labtest.On(m.atB, f), 53))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		for range 5 {
			fmt.Fprint(conn, "question")
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				t.Fatalf("UDP through the machine: %v", err)
			}
		}
	}
	if err := m.gw.Do(func() error {
		status, err := Backend{}.Inspect()
		if err == nil {
			err = Backend{}.ReadSources(status)
		}
		if err == nil && (len(status.Progress) > 0 || len(status.Grants) > 0) {
			t.Errorf("traffic in transit counted as knocks: %+v", status)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// A passage is what became of one packet sent to b.
type passage struct {
	what string
	raw  []byte // as it arrived; nil if it did not
}

// through sends packets of all kinds, one at a time, and sees them arrive.
func (m *middle) through() []passage {
	m.t.Helper()
	s := &labtest.Scene{Port: 40000}
	var all []passage
	for _, f := range labtest.Families {
		src, dst := labtest.On(m.atA, f), labtest.On(m.atB, f)
		var packets []*packet.Packet
		for _, port := range []policy.Port{labtest.TCP(1), labtest.TCP(2), labtest.TCP(4), labtest.TCP(22), labtest.TCP(80), labtest.TCP(9), labtest.UDP(3), labtest.UDP(53), labtest.UDP(9), labtest.Echo} {
			packets = append(packets, s.Opening(src, dst, port))
		}
		for _, flags := range []packet.TCPFlags{0, packet.FIN, packet.RST, packet.ACK, packet.SYN | packet.ACK, packet.SYN | packet.RST, packet.FIN | packet.PSH | packet.URG} {
			p := s.Opening(src, dst, labtest.TCP(22))
			p.TCP.Flags = flags
			packets = append(packets, p)
		}
		packets = append(packets, &packet.Packet{Src: src, Dst: dst, Protocol: 50, Payload: []byte("something of IPsec")})
		for _, p := range packets {
			p.V4.ID = uint16(len(all) + 1) // the kernel would fill in a zero
			raw, err := p.Append(nil)
			if err != nil {
				m.t.Fatal(err)
			}
			m.arriving.Drain()
			if err := m.a.Do(func() error { return sendRaw(dst, raw) }); err != nil {
				m.t.Fatal(err)
			}
			if err := m.Settle(); err != nil {
				m.t.Fatal(err)
			}
			got, err := m.arriving.Drain()
			if err != nil {
				m.t.Fatal(err)
			}
			one := passage{what: p.String()}
			for _, c := range got {
				if !c.Out && c.Src == src && len(c.Raw) == len(raw) && bytes.HasSuffix(c.Raw, raw[len(raw)-8:]) {
					one.raw = c.Raw
				}
			}
			if one.raw == nil {
				m.t.Errorf("%s did not arrive", p)
			}
			all = append(all, one)
		}
	}
	return all
}

// sendRaw has the host send an IP packet to its neighbour, whose link-layer
// address it finds out: that of the far side of a bridge, too.
func sendRaw(dst netip.Addr, raw []byte) error {
	if dst.Is4() {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, raw, 0, &unix.SockaddrInet4{Addr: dst.As4()})
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, raw, 0, &unix.SockaddrInet6{Addr: dst.As16()})
}
