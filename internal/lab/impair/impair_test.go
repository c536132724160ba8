//go:build linux

package impair_test

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/impair"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// numbered returns a packet that carries its number and is not answered.
func numbered(t *testing.T, src, dst netip.Addr, number int) []byte {
	p := syn(src, dst)
	p.TCP.Seq, p.TCP.ChecksumError = uint32(number), 1
	return bytes(t, p)
}

// An arrival is one packet at the other end of a stream.
type arrival struct {
	number int
	after  time.Duration // since a moment just before it was sent
}

// stream sends n packets one way and returns what arrives, in order, when
// as much has arrived as the relay says it has passed on.
func stream(t *testing.T, from, to *lab.Link, addr func(*lab.Link) netip.Addr, n int, counts func() impair.Counts) []arrival {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sender, err := from.Sender()
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	capture, err := to.Capture(tcpOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	before, sent := counts(), make([]time.Time, n)
	const burst = 500 // far less than anyone on the way has room for
	for begin := 0; begin < n; begin += burst {
		var packets [][]byte
		for number := begin; number < min(begin+burst, n); number++ {
			packets = append(packets, numbered(t, addr(from), addr(to), number))
		}
		for i := range packets {
			sent[begin+i] = time.Now()
		}
		if _, err := sender.Send(packets...); err != nil {
			t.Fatal(err)
		}
		for counts().Seen-before.Seen < begin+len(packets) {
			if ctx.Err() != nil {
				t.Fatalf("the relay has not seen %d packets: %+v", begin+len(packets), counts())
			}
			time.Sleep(100 * time.Microsecond)
		}
	}
	c := counts()
	if c.Dropped != 0 {
		t.Fatalf("there was no room for packets: %+v", c)
	}
	var got []arrival
	for range n - (c.Lost - before.Lost) + (c.Duplicated - before.Duplicated) {
		p, err := capture.Next(ctx)
		if err != nil {
			t.Fatalf("after %d packets: %v", len(got), err)
		}
		got = append(got, arrival{int(p.TCP.Seq), p.Time.Sub(sent[p.TCP.Seq].Round(0))})
	}
	return got
}

// A link without impairments passes everything in order, both ways, and the
// hosts do with it what they do with a cable.
func TestUnimpaired(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	atA, atB, relay := impair.Connect(l, a, b, impair.Impairment{}, net4, net6)
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		const n = 2000
		there := func() impair.Counts { c, _ := relay.Counts(); return c }
		back := func() impair.Counts { _, c := relay.Counts(); return c }
		for way, got := range [][]arrival{stream(t, atA, atB, addr, n, there), stream(t, atB, atA, addr, n, back)} {
			for i, p := range got {
				if p.number != i {
					t.Fatalf("way %d: packet %d arrived at position %d", way, p.number, i)
				}
			}
			if len(got) != n {
				t.Errorf("way %d: %d packets of %d have come", way, len(got), n)
			}
		}
		labtest.PingPong(t, a, b, "tcp", addr(atB))
		labtest.PingPong(t, b, a, "udp", addr(atA))
	})
	// Addresses given later work too.
	atB.AddAddress("198.51.100.1/24", "2001:db8:2::1/64")
	a.Route("198.51.100.0/24", atB.Addr4())
	a.Route("2001:db8:2::/64", atB.Addr6())
	labtest.PingPong(t, a, b, "tcp", netip.MustParseAddr("198.51.100.1"))
	labtest.PingPong(t, a, b, "tcp", netip.MustParseAddr("2001:db8:2::1"))
}

// What happens on the wire is what was asked for: as many packets as the
// shares say are missing, come twice and are overtaken, and none is early. And
// it happens to the same packets each time.
func TestImpaired(t *testing.T) {
	const n = 10_000
	asked := impair.Impairment{
		Delay: 40 * time.Millisecond, Hold: 300 * time.Millisecond,
		Loss: 0.05, Duplicate: 0.02, Reorder: 0.1, Seed: 11,
	}
	impaired := func(t *testing.T, addr func(*lab.Link) netip.Addr) string {
		l := lab.NewT(t)
		a, b := l.Host("a"), l.Host("b")
		atA, atB, relay := impair.Connect(l, a, b, asked, net4, net6)
		got := stream(t, atA, atB, addr, n, func() impair.Counts { c, _ := relay.Counts(); return c })

		times := make([]int, n) // that it has come
		highest, overtaken := -1, 0
		for _, p := range got {
			times[p.number]++
			needs := asked.Delay
			if p.number < highest {
				overtaken++
				needs += asked.Hold
			}
			highest = max(highest, p.number)
			if p.after < needs {
				t.Fatalf("packet %d has taken %s, less than %s", p.number, p.after, needs)
			}
		}
		var lost, twice int
		for _, n := range times {
			switch n {
			case 0:
				lost++
			case 2:
				twice++
			}
		}
		counts, back := relay.Counts()
		if lost != counts.Lost || twice != counts.Duplicated || counts.Seen != n {
			t.Errorf("%d lost, %d came twice; the relay says %+v", lost, twice, counts)
		}
		// One that is held back is not overtaken if nothing follows: at the
		// end, or while this process gets no CPU.
		if overtaken > counts.Reordered || overtaken < counts.Reordered*8/10 {
			t.Errorf("%d overtaken of %d that were held back", overtaken, counts.Reordered)
		}
		arrived := float64(n - lost)
		within(t, "lost", lost, n, asked.Loss)
		within(t, "twice", twice, arrived, asked.Duplicate)
		within(t, "held back", counts.Reordered, arrived*(1+asked.Duplicate), asked.Reorder)
		if back != (impair.Counts{}) {
			t.Errorf("packets came back that were not sent: %+v", back)
		}
		return fmt.Sprint(times)
	}
	var first string
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		fates := impaired(t, addr)
		if first != "" && fates != first {
			t.Error("the same seed has lost or doubled other packets")
		}
		first = fates
	})
}

// within checks a count of n against a share, with four standard deviations.
func within(t *testing.T, what string, count int, n, share float64) {
	t.Helper()
	bound := 4 * math.Sqrt(n*share*(1-share))
	if math.Abs(float64(count)-n*share) > bound {
		t.Errorf("%s: %d, want %.0f, at most %.0f off", what, count, n*share, bound)
	}
}

// The delay is there each way: a connection takes a round trip to stand.
func TestImpairedRoundTrip(t *testing.T) {
	l := lab.NewT(t)
	client, gw := l.Host("client"), l.Host("gw")
	const delay = 40 * time.Millisecond
	_, atGW, _ := impair.Connect(l, client, gw, impair.Impairment{Delay: delay}, net4, net6)
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		ln, err := gw.Listen(labtest.Soon(t), "tcp", ":22")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		begin := time.Now()
		conn, err := client.Dial(labtest.Soon(t), "tcp", netip.AddrPortFrom(addr(atGW), 22))
		took := time.Since(begin)
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		// Not more than a retransmission later either, which a busy machine
		// is not, but which a lost packet would be.
		if took < 2*delay || took > time.Second {
			t.Errorf("a connection stood after %s, want a little more than %s", took, 2*delay)
		}
	})
}

// Every octet arrives, once and in its place, whatever happens to the packets;
// and those are as a real wire would carry them.
func TestImpairedTransfer(t *testing.T) {
	const size = 5 << 20
	sent := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(sent)
	for _, bad := range []impair.Impairment{
		{Delay: time.Millisecond, Loss: 0.01, Seed: 1},
		{Delay: time.Millisecond, Loss: 0.01, Duplicate: 0.02, Reorder: 0.02, Hold: 100 * time.Microsecond, Seed: 1},
	} {
		l := lab.NewT(t)
		a, b := l.Host("a"), l.Host("b")
		_, atB, relay := impair.Connect(l, a, b, bad, net4, net6)
		wrong, err := atB.Capture(func(p *packet.Packet) bool {
			// The kernel may write a sum of zero in its other form, all ones.
			return p.TCP == nil || p.TCP.ChecksumError != 0 && p.TCP.ChecksumError != 0xffff || len(p.Payload) > 1460
		})
		if err != nil {
			t.Fatal(err)
		}
		both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
			begin := time.Now()
			got := receive(t, a, b, addr(atB), sent)
			if !slices.Equal(got, sent) {
				t.Errorf("%d octets have arrived, of %d, or others", len(got), len(sent))
			}
			there, back := relay.Counts()
			t.Logf("%s; %+v, %+v", time.Since(begin).Round(time.Millisecond), there, back)
			if there.Lost == 0 || back.Lost == 0 || there.Dropped+back.Dropped != 0 {
				t.Errorf("that was no bad network: %+v, %+v", there, back)
			}
		})
		if got, err := wrong.Drain(); err != nil || len(got) > 0 {
			t.Errorf("not as on a real wire: %v, %v", got, err)
		}
	}
}

// receive sends octets from one host to another and returns what arrives.
func receive(t *testing.T, from, to *lab.Host, addr netip.Addr, octets []byte) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := netip.AddrPortFrom(addr, 9)
	ln, err := to.Listen(ctx, "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		conn, err := from.Dial(ctx, "tcp", at)
		if err != nil {
			ln.Close() // ends Accept below
			return
		}
		defer conn.Close()
		conn.Write(octets)
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	conn.SetDeadline(deadline)
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return got
}
