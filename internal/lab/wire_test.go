//go:build linux

package lab_test

import (
	"errors"
	"io"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"weak"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// syn is a SYN to port 22 of the other end.
func syn(src, dst netip.Addr) *packet.Packet {
	return &packet.Packet{Src: src, Dst: dst,
		TCP: &packet.TCP{SrcPort: 40000, DstPort: 22, Seq: 1000, Flags: packet.SYN, Window: 1024}}
}

func bytes(t *testing.T, p *packet.Packet) []byte {
	t.Helper()
	b, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tcpOnly(p *packet.Packet) bool { return p.TCP != nil }

// A hand-made SYN with a foreign source arrives as it was written, is admitted,
// and is answered by the RST of a port with nothing behind it.
func TestSendAndCapture(t *testing.T) {
	l := lab.NewT(t)
	client, gw := l.Host("client"), l.Host("gw")
	atClient, atGW := l.Connect(client, gw, net4, net6)
	gw.Route("203.0.113.0/24", atClient.Addr4())
	gw.Route("2001:db8:f::/64", atClient.Addr6())
	sender, err := atClient.Sender()
	if err != nil {
		t.Fatal(err)
	}
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		ctx := soon(t)
		source := netip.MustParseAddr("203.0.113.9")
		if addr(atGW).Is6() {
			source = netip.MustParseAddr("2001:db8:f::9")
		}
		captures := make([]*lab.Capture, 3)
		for i, open := range []func() (*lab.Capture, error){
			func() (*lab.Capture, error) { return atClient.Capture(tcpOnly) },
			func() (*lab.Capture, error) { return atGW.Capture(tcpOnly) },
			func() (*lab.Capture, error) { return gw.Admitted(packet.ProtocolTCP, nil) },
		} {
			var err error
			if captures[i], err = open(); err != nil {
				t.Fatal(err)
			}
			defer captures[i].Close()
		}
		p := syn(source, addr(atGW))
		sent := bytes(t, p)
		if n, err := sender.Send(sent); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		for i, where := range []string{1: "on the wire", 2: "admitted"} {
			if i == 0 {
				continue // a sender's packets pass its own host unseen
			}
			got, err := captures[i].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Raw) != string(sent) || got.Out {
				t.Errorf("%s: got % x (out: %v), sent % x", where, got.Raw, got.Out, sent)
			}
		}
		want := &packet.TCP{SrcPort: 22, DstPort: 40000, Ack: 1001, Flags: packet.RST | packet.ACK}
		for i, where := range []string{"client", "gateway"} {
			got, err := captures[i].Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if d := packet.Diff(&packet.Packet{TCP: got.TCP}, &packet.Packet{TCP: want}); len(d) > 0 {
				t.Errorf("%s: answered by %s: %v", where, got, d)
			}
			if out := i == 1; got.Out != out {
				t.Errorf("%s: out is %v", where, got.Out)
			}
		}
	})
}

// The packets of real connections are as a real wire would carry them: right
// checksums, no more than the MTU.
func TestNoOffload(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b, net4, net6)
	for _, end := range []*lab.Link{atA, atB} {
		capture, err := end.Capture(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []netip.Addr{atB.Addr4(), atB.Addr6()} {
			labtest.PingPong(t, a, b, "tcp", addr)
			labtest.PingPong(t, a, b, "udp", addr)
			transfer(t, a, b, addr, 100_000)
		}
		if err := l.Settle(); err != nil {
			t.Fatal(err)
		}
		got, err := capture.Drain()
		if err != nil {
			t.Fatal(err)
		}
		full := 0
		for _, c := range got {
			if len(c.Raw) > 1500 {
				t.Fatalf("%s: %d octets", c, len(c.Raw))
			}
			if len(c.Raw) == 1500 {
				full++
			}
			// (The kernel may write a TCP checksum of 0 as 0xffff, which is as right.)
			if c.TCP != nil && c.TCP.ChecksumError != 0 && c.TCP.ChecksumError != 0xffff || c.UDP != nil && c.UDP.ChecksumError != 0 {
				t.Fatalf("wrong checksum: %s", c)
			}
		}
		if full < 100 {
			t.Errorf("%d full packets of %d, want at least 100", full, len(got))
		}
	}
}

// transfer sends n octets from one host to another.
func transfer(t *testing.T, from, to *lab.Host, addr netip.Addr, n int) {
	t.Helper()
	ctx := soon(t)
	ln, err := to.Listen(ctx, "tcp", netip.AddrPortFrom(addr, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := from.Dial(ctx, "tcp", netip.AddrPortFrom(addr, 9))
		if err != nil {
			return
		}
		defer conn.Close()
		conn.Write(make([]byte, n))
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.Copy(io.Discard, conn); int(got) != n || err != nil {
		t.Fatalf("got %d octets of %d: %v", got, n, err)
	}
}

// The kernel as oracle for what package packet writes: each of these is a SYN
// that a stack takes, and answers, or refuses.
func TestKernelTakesPackets(t *testing.T) {
	l := lab.NewT(t)
	client, gw := l.Host("client"), l.Host("gw")
	atClient, atGW := l.Connect(client, gw, net4, net6)
	sender, err := atClient.Sender()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := atClient.Capture(func(p *packet.Packet) bool { return p.TCP != nil && p.TCP.Flags&packet.RST != 0 })
	if err != nil {
		t.Fatal(err)
	}
	from4, from6 := netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8:1::99")
	atClient.AddAddress("192.0.2.99/24", "2001:db8:1::99/64")
	plain4, plain6 := syn(from4, atGW.Addr4()), syn(from6, atGW.Addr6())
	with := func(p *packet.Packet, change func(p *packet.Packet)) []packet.Packet {
		q := *p
		tcp := *p.TCP
		q.TCP = &tcp
		change(&q)
		return []packet.Packet{q}
	}
	cut := func(p []packet.Packet, at ...int) []packet.Packet {
		parts, err := p[0].Fragments(7, at...)
		if err != nil {
			t.Fatal(err)
		}
		return parts
	}
	extended := func(e ...packet.Extension) []packet.Packet {
		return with(plain6, func(p *packet.Packet) { p.V6.Extensions = e })
	}
	padding := packet.DestinationOptions()
	const answered, silent = 1, 0
	for _, test := range []struct {
		name    string
		packets []packet.Packet
		answers int
	}{
		{"plain IPv4", []packet.Packet{*plain4}, answered},
		{"plain IPv6", []packet.Packet{*plain6}, answered},
		{"TCP options", with(plain4, func(p *packet.Packet) { p.TCP.Options = []byte{2, 4, 5, 180, 1} }), answered},
		{"payload of odd length", with(plain4, func(p *packet.Packet) { p.Payload = []byte("odd") }), answered},
		{"payload of odd length, IPv6", with(plain6, func(p *packet.Packet) { p.Payload = []byte("odd") }), answered},
		{"IPv4 options", with(plain4, func(p *packet.Packet) { p.V4.Options = []byte{1, 1, 1} }), answered},
		{"traffic class", with(plain4, func(p *packet.Packet) { p.TrafficClass = 0xb8 }), answered},
		{"traffic class, flow label", with(plain6, func(p *packet.Packet) { p.TrafficClass, p.V6.FlowLabel = 0xb8, 0xfffff }), answered},
		{"two IPv4 fragments", cut([]packet.Packet{*plain4}, 8), answered},
		{"three IPv4 fragments", cut(with(plain4, func(p *packet.Packet) { p.V4.Flags = packet.DontFragment }), 8, 16), answered},
		{"two IPv6 fragments", cut(with(plain6, func(p *packet.Packet) { p.Payload = []byte("payload") }), 24), answered},
		{"IPv6 fragments behind options", cut(with(plain6, func(p *packet.Packet) {
			p.V6.Extensions = []packet.Extension{packet.HopByHop(), padding}
			p.Payload = []byte("payload")
		}), 32), answered},
		// Unlike in IPv4, the first part must hold the whole TCP header
		// (RFC 8200, 4.5; ipv6frag_thdr_truncated in the kernel).
		{"a TCP header in two IPv6 fragments", cut([]packet.Packet{*plain6}, 8), silent},
		{"hop-by-hop options", extended(packet.HopByHop()), answered},
		{"destination options", extended(padding), answered},
		{"a long header", extended(packet.DestinationOptions(append([]byte{0x1e, 20}, make([]byte, 20)...)...)), answered},
		{"atomic fragment", extended(packet.FragmentHeader(1, 0, 0)), answered},
		{"all headers", extended(packet.HopByHop(), padding, packet.FragmentHeader(1, 0, 0), padding), answered},
		{"one fragment of two", cut([]packet.Packet{*plain4}, 8)[:1], silent},
		{"wrong TCP checksum", with(plain4, func(p *packet.Packet) { p.TCP.ChecksumError = 1 }), silent},
		{"wrong TCP checksum, IPv6", with(plain6, func(p *packet.Packet) { p.TCP.ChecksumError = 1 }), silent},
		{"wrong IPv4 checksum", with(plain4, func(p *packet.Packet) { p.V4.ChecksumError = 0x100 }), silent},
		{"type 0 routing header", extended(packet.RoutingHeader(0, 1, make([]byte, 20)...)), silent},
	} {
		t.Run(test.name, func(t *testing.T) {
			for i := range test.packets {
				if _, err := sender.Send(bytes(t, &test.packets[i])); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Settle(); err != nil {
				t.Fatal(err)
			}
			got, err := answers.Drain()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != test.answers {
				t.Errorf("%d answers, want %d, to %s: %v", len(got), test.answers, &test.packets[0], got)
			}
		})
	}
}

// Every packet that was sent shows up before Settle is over, whichever CPU
// sends, over several hops and through a bridge.
func TestSettle(t *testing.T) {
	l := lab.NewT(t)
	client, sw, gw, inner := l.Host("client"), l.Host("switch"), l.Host("gw"), l.Host("inner")
	atClient, port1 := l.Connect(client, sw)
	atGW, port2 := l.Connect(gw, sw)
	l.Bridge(sw, "br0", port1, port2)
	atClient.AddAddress("192.0.2.1/24", "2001:db8:1::1/64")
	atGW.AddAddress("192.0.2.2/24", "2001:db8:1::2/64")
	inside, atInner := l.Connect(gw, inner, "198.51.100.0/24", "2001:db8:2::/64")
	client.Route("198.51.100.0/24", atGW.Addr4())
	inner.Route("0.0.0.0/0", inside.Addr4())
	gw.Sysctl("net.ipv4.ip_forward", "1")

	answers, err := atClient.Capture(func(p *packet.Packet) bool { return p.TCP != nil && p.TCP.Flags&packet.RST != 0 })
	if err != nil {
		t.Fatal(err)
	}
	// As the client's own stack sends, so that neighbours must be found first.
	var raw int
	if err := client.Do(func() (err error) {
		raw, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(raw)
	p := syn(atClient.Addr4(), atInner.Addr4())
	for round := range 10 {
		for cpu := range runtime.NumCPU() {
			p.TCP.SrcPort++
			err := lab.OnCPU(cpu, func() error {
				return unix.Sendto(raw, bytes(t, p), 0, &unix.SockaddrInet4{Addr: p.Dst.As4()})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Settle(); err != nil {
			t.Fatal(err)
		}
		got, err := answers.Drain()
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != runtime.NumCPU() {
			t.Fatalf("round %d: %d answers to %d packets: %v", round, len(got), runtime.NumCPU(), got)
		}
	}
}

// Without load an answer is there when Send returns, and TestSettle would pass
// if Settle did nothing. What makes it right under load is that every end of
// every cable gets a marker on every CPU, once for each hop.
func TestSettleMarks(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b)
	var ends [][]int // a socket for each CPU
	for _, k := range []*lab.Link{atA, atB} {
		// The experimental frame type.
		sockets := onEachCPU(t, k, 0x88b5)
		ends = append(ends, sockets)
	}
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	const want = 6 // request and answer, and as much again for each to find its neighbour, and back
	for i, sockets := range ends {
		for cpu, fd := range sockets {
			got := 0
			for b := make([]byte, 100); ; got++ {
				if _, err := unix.Read(fd, b); err != nil {
					break
				}
			}
			if got != want {
				t.Errorf("end %d got %d markers on CPU %d, want %d", i, got, cpu, want)
			}
		}
	}
}

// On a cable that is cut nothing can be known to have arrived.
func TestSettleCut(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	l.Connect(a, b)
	if err := l.Settle(); err != nil {
		t.Fatal(err)
	}
	err := b.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := unix.NewIfreq("a")
		if err != nil {
			return err
		}
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link) // no flags: down
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Settle(); err == nil || !strings.Contains(err.Error(), `link "`) {
		t.Errorf("got %v, want an error that names the link", err)
	}
}

// A capture that has lost packets says so, and not that there were none.
func TestCaptureOverflow(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b, net4)
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	p := syn(atA.Addr4(), atB.Addr4())
	p.Payload = make([]byte, 1000) // to fill the room faster
	sent := make([][]byte, 10_000)
	for i := range sent {
		sent[i] = bytes(t, p)
	}
	for name, open := range map[string]func(lab.Filter) (*lab.Capture, error){
		"ring":     atB.Capture,
		"admitted": func(f lab.Filter) (*lab.Capture, error) { return b.Admitted(packet.ProtocolTCP, f) },
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan bool)
			capture, err := open(func(*packet.Packet) bool { <-release; return true })
			if err != nil {
				t.Fatal(err)
			}
			for range 4 {
				if n, err := sender.Send(sent...); n != len(sent) || err != nil {
					t.Fatal(n, err)
				}
			}
			close(release)
			if _, err := capture.Next(soon(t)); err == nil || !strings.Contains(err.Error(), "dropped") {
				t.Errorf("got %v", err)
			}
			if _, err := capture.Drain(); err == nil || !strings.Contains(err.Error(), "dropped") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A packet that does not fit the ring is not passed over in silence.
func TestCaptureTooLong(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b, net4)
	for _, k := range []*lab.Link{atA, atB} {
		err := k.Host.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			link, err := unix.NewIfreq(k.Name)
			if err != nil {
				return err
			}
			link.SetUint32(9000)
			return unix.IoctlIfreq(fd, unix.SIOCSIFMTU, link)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	capture, err := atB.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	p := syn(atA.Addr4(), atB.Addr4())
	p.Payload = make([]byte, 3000)
	if _, err := sender.Send(bytes(t, p)); err != nil {
		t.Fatal(err)
	}
	if got, err := capture.Next(soon(t)); err == nil || !strings.Contains(err.Error(), "3040 octets is too long") {
		t.Errorf("got %v, %v", got, err)
	}
}

// What was captured stays after Close; then there is no more.
func TestCaptureClose(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b, net4)
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	capture, err := atB.Capture(tcpOnly)
	if err != nil {
		t.Fatal(err)
	}
	p := syn(atA.Addr4(), atB.Addr4())
	if _, err := sender.Send(bytes(t, p)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Settle(), capture.Close(), capture.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := capture.Next(soon(t)); err != nil || got.TCP.Flags != packet.SYN {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := capture.Drain(); len(got) != 1 || err != nil { // the RST
		t.Errorf("got %v, %v", got, err)
	}
	for range 2 {
		if got, err := capture.Next(soon(t)); !errors.Is(err, lab.ErrClosed) {
			t.Errorf("got %v, %v", got, err)
		}
	}
	if _, err := sender.Send(nil); err == nil || !strings.Contains(err.Error(), "packet 1 of 1: it is empty") {
		t.Errorf("sent an empty packet: %v", err)
	}
}

// What was taken is not kept in memory for as long as the lab: a scan of all ports takes
// a hundred thousand packets each time.
func TestCaptureKeepsNothing(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB := l.Connect(a, b, net4)
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	capture, err := atB.Capture(tcpOnly)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sender.Send(bytes(t, syn(atA.Addr4(), atB.Addr4()))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Settle(), capture.Close()); err != nil {
		t.Fatal(err)
	}
	taken := func() weak.Pointer[packet.Packet] {
		got, err := capture.Drain()
		if len(got) != 2 || err != nil { // with the RST
			t.Fatalf("got %v, %v", got, err)
		}
		return weak.Make(got[0].Packet)
	}()
	runtime.GC()
	if taken.Value() != nil {
		t.Error("a packet that was taken is still there")
	}
}

// BenchmarkSender floods a host that answers nothing.
func BenchmarkSender(b *testing.B) {
	l := lab.NewT(b)
	client, gw := l.Host("client"), l.Host("gw")
	atClient, atGW := l.Connect(client, gw, net4)
	sender, err := atClient.Sender()
	if err != nil {
		b.Fatal(err)
	}
	p := syn(atClient.Addr4(), atGW.Addr4())
	p.TCP.ChecksumError = 1
	packets := make([][]byte, 256)
	for i := range packets {
		packets[i] = make([]byte, 0, 64)
	}
	b.ReportAllocs()
	sent := 0
	for b.Loop() {
		for i := range packets {
			p.TCP.SrcPort++
			if packets[i], err = p.Append(packets[i][:0]); err != nil {
				b.Fatal(err)
			}
		}
		n, err := sender.Send(packets...)
		if err != nil {
			b.Fatal(err)
		}
		sent += n
	}
	b.ReportMetric(float64(sent)/b.Elapsed().Seconds(), "packets/s")
}

// A listener answers like one of plain TCP, also a SYN that offers multipath
// TCP (RFC 8684: option 30).
func TestPlainListener(t *testing.T) {
	l := lab.NewT(t)
	client, gw := l.Host("client"), l.Host("gw")
	atClient, atGW := l.Connect(client, gw, net4)
	ln, err := gw.Listen(soon(t), "tcp", ":22")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	sender, err := atClient.Sender()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := atClient.Capture(func(p *packet.Packet) bool { return p.TCP != nil && p.TCP.Flags == packet.SYN|packet.ACK })
	if err != nil {
		t.Fatal(err)
	}
	p := syn(atClient.Addr4(), atGW.Addr4())
	p.TCP.Options = []byte{30, 4, 1, 1}
	if _, err := sender.Send(bytes(t, p)); err != nil {
		t.Fatal(err)
	}
	got, err := answers.Next(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{2, 4, 5, 180}; string(got.TCP.Options) != string(want) { // the segment size alone
		t.Errorf("answered with options % x, want % x", got.TCP.Options, want)
	}
}
