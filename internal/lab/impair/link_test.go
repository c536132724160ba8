//go:build linux

package impair_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/impair"
	"postern/internal/lab/labtest"
)

// Nothing crosses that the test has not sent: what kernels say of their own
// accord would take the place, and the fate, of a packet that counts.
func TestImpairedIsQuiet(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB, relay := impair.Connect(l, a, b, impair.Impairment{Seed: 2}, net4, net6)
	// A router joins groups and says so, in IPv6.
	b.Sysctl("net.ipv6.conf.all.forwarding", "1")
	stream(t, atA, atB, (*lab.Link).Addr6, 10, func() impair.Counts { c, _ := relay.Counts(); return c })
	// Its own stack finds the neighbour without asking.
	conn, err := b.Dial(labtest.Soon(t), "udp", netip.AddrPortFrom(atA.Addr6(), 9))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		answered <- err
	}()
	if _, err := conn.Write([]byte("anyone?")); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err == nil { // a port with nothing behind it
		t.Error("a port without a listener answered")
	}
	there, back := relay.Counts()
	if there != (impair.Counts{Seen: 10 + 1}) || back != (impair.Counts{Seen: 1}) {
		t.Errorf("10 packets and an exchange of two were sent, the relay has seen %+v, %+v", there, back)
	}
}

// What waits on one way does not keep the other waiting.
func TestImpairedWaysAreApart(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	// By this seed the first packet of the first way is held back, and none
	// of the first five of the other.
	atA, atB, relay := impair.Connect(l, a, b, impair.Impairment{Delay: time.Millisecond, Reorder: 0.4, Hold: time.Hour, Seed: 126}, net4)
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sender.Send(numbered(t, atA.Addr4(), atB.Addr4(), 1)); err != nil {
		t.Fatal(err)
	}
	stream(t, atB, atA, (*lab.Link).Addr4, 5, func() impair.Counts { _, c := relay.Counts(); return c })
	there, back := relay.Counts()
	if there != (impair.Counts{Seen: 1, Reordered: 1}) || back != (impair.Counts{Seen: 5}) {
		t.Fatalf("the seed does not do what the test needs: %+v, %+v", there, back)
	}
}

// What cannot be delivered is counted, and the link works again when the other
// end does.
func TestImpairedCut(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB, relay := impair.Connect(l, a, b, impair.Impairment{}, net4)
	sender, err := atA.Sender()
	if err != nil {
		t.Fatal(err)
	}
	turn(t, b, "a", false)
	if _, err := sender.Send(numbered(t, atA.Addr4(), atB.Addr4(), 1)); err != nil {
		t.Fatal(err)
	}
	for ctx := labtest.Soon(t); ; time.Sleep(time.Millisecond) {
		if there, _ := relay.Counts(); there == (impair.Counts{Seen: 1, Dropped: 1}) {
			break
		} else if ctx.Err() != nil {
			t.Fatalf("got %+v, want the packet counted as dropped", there)
		}
	}
	turn(t, b, "a", true)
	labtest.PingPong(t, a, b, "tcp", atB.Addr4())
}

// A network changes: what comes after a change has the new fate, by the new seed's
// first numbers.
func TestImpair(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB, relay := impair.Connect(l, a, b, impair.Impairment{}, net4)
	fromA := func() impair.Counts { c, _ := relay.Counts(); return c }
	for _, step := range []struct {
		impairment impair.Impairment
		want       impair.Counts
	}{
		{impair.Impairment{Loss: 1}, impair.Counts{Seen: 5, Lost: 5}},
		{impair.Impairment{Duplicate: 1, Delay: time.Millisecond}, impair.Counts{Seen: 10, Lost: 5, Duplicated: 5}},
		// The seed of TestImpairedWaysAreApart, which holds back the first one.
		{impair.Impairment{Delay: time.Millisecond, Reorder: 0.4, Hold: time.Millisecond, Seed: 126}, impair.Counts{Seen: 11, Lost: 5, Duplicated: 5, Reordered: 1}},
		{impair.Impairment{}, impair.Counts{Seen: 16, Lost: 5, Duplicated: 5, Reordered: 1}},
	} {
		before := fromA()
		if err := relay.Impair(step.impairment); err != nil {
			t.Fatal(err)
		}
		stream(t, atA, atB, (*lab.Link).Addr4, step.want.Seen-before.Seen, fromA)
		if got := fromA(); got != step.want {
			t.Errorf("%+v: counted %+v, want %+v", step.impairment, got, step.want)
		}
	}
	if err := relay.Impair(impair.Impairment{Loss: 2}); err == nil || !strings.Contains(err.Error(), "loss 2 is not a share") {
		t.Errorf("got %v", err)
	}
}

// turn turns an interface of a host on or off.
func turn(t *testing.T, h *lab.Host, name string, on bool) {
	t.Helper()
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, link); err != nil {
			return err
		}
		flags := link.Uint16() &^ unix.IFF_UP
		if on {
			flags |= unix.IFF_UP
		}
		link.SetUint16(flags)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, link)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The relay ends with its lab, with packets under way too, and no file of it
// is left open. What it has counted stays.
func TestImpairedEnds(t *testing.T) {
	open := func() int {
		t.Helper()
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(files)
	}
	round := func() {
		l := lab.New()
		atA, atB, relay := impair.Connect(l, l.Host("a"), l.Host("b"), impair.Impairment{Delay: time.Hour}, net4)
		if err := l.Err(); err != nil {
			t.Fatal(err)
		}
		sender, err := atA.Sender()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sender.Send(numbered(t, atA.Addr4(), atB.Addr4(), 1)); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if there, back := relay.Counts(); there.Seen > 1 || back != (impair.Counts{}) {
			t.Errorf("afterwards: %+v, %+v", there, back)
		}
	}
	round() // whatever is opened once in a process
	before := open()
	for range 5 {
		round()
	}
	if after := open(); after > before {
		t.Errorf("%d files were open, and now %d are", before, after)
	}
}

func TestImpairedRefused(t *testing.T) {
	for _, test := range []struct {
		build func(l *lab.Lab, a, b *lab.Host)
		want  string
	}{
		{func(l *lab.Lab, a, b *lab.Host) { impair.Connect(l, a, b, impair.Impairment{Loss: 5}) },
			`connect "a" and "b", impaired: loss 5 is not a share: give a number from 0 to 1`},
		{func(l *lab.Lab, a, b *lab.Host) { impair.Connect(l, a, a, impair.Impairment{}) }, "needs two hosts"},
		{func(l *lab.Lab, a, b *lab.Host) { impair.Connect(l, a, b, impair.Impairment{}, "192.0.2.1") }, `"192.0.2.1"`},
		{func(l *lab.Lab, a, b *lab.Host) {
			atA, _, _ := impair.Connect(l, a, b, impair.Impairment{})
			l.Bridge(a, "br0", atA)
		}, `link "b" is cut`},
	} {
		l := lab.New()
		a, b := l.Host("a"), l.Host("b")
		test.build(l, a, b)
		if err := l.Err(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v, want it to say %s", err, test.want)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkImpairedDelay measures by how much packets are late on a link of
// 40 ms, one every 5 ms.
func BenchmarkImpairedDelay(b *testing.B) {
	l := lab.NewT(b)
	one, other := l.Host("a"), l.Host("b")
	const delay = 40 * time.Millisecond
	atA, atB, _ := impair.Connect(l, one, other, impair.Impairment{Delay: delay}, net4)
	sender, err := atA.Sender()
	if err != nil {
		b.Fatal(err)
	}
	capture, err := atB.Capture(tcpOnly)
	if err != nil {
		b.Fatal(err)
	}
	p := syn(atA.Addr4(), atB.Addr4())
	p.TCP.ChecksumError = 1
	octets, err := p.Append(nil)
	if err != nil {
		b.Fatal(err)
	}
	var sent []time.Time
	for b.Loop() {
		sent = append(sent, time.Now())
		if _, err := sender.Send(octets); err != nil {
			b.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	late := make([]time.Duration, len(sent))
	for i := range sent {
		got, err := capture.Next(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		late[i] = got.Time.Sub(sent[i].Round(0)) - delay
	}
	slices.Sort(late)
	b.ReportMetric(0, "ns/op") // it is the pause
	for _, share := range []int{0, 50, 99, 100} {
		b.ReportMetric(float64(late[(len(late)-1)*share/100].Nanoseconds())/1e3, fmt.Sprintf("µs-late-p%d", share))
	}
}
