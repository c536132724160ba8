package nftables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"postern/internal/firewall/conformance"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

func TestClosing(t *testing.T) {
	t.Parallel()
	for _, cover := range []policy.Cover{policy.CoverDrop, policy.CoverReset} {
		for _, onClose := range []policy.OnClose{policy.OnCloseKeep, policy.OnCloseCut} {
			t.Run(string(cover)+" "+string(onClose), func(t *testing.T) {
				t.Parallel()
				conformance.Closing(t, Backend{}, cover, onClose)
			})
		}
	}
}

// TestClosingForOthers: nobody ends the connections of others by closing the door from an
// address that has the same hash as theirs.
func TestClosingForOthers(t *testing.T) {
	t.Parallel()
	s := labtest.NewScene(t, Backend{})
	services := ""
	for port := 1000; port < 1016; port++ {
		services += fmt.Sprintf("udp/%d, ", port)
	}
	m := labtest.Compile(t, Backend{}, labtest.Closed+"doors: {web: {service: ["+services+"], "+
		"knock: {sequence: [1, 2], close: [3, 2, 1]}, open_for: 1h, on_close: cut}}\n")
	s.Apply(m)
	for i := range m.Services {
		service := &m.Services[i]
		of := map[uint32]netip.Addr{} // by their hashes
		for n := range 1 << 16 {
			a := netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}) // those of NewAddress
			hash := jhash(a, uint32(service.ID))
			other, found := of[hash]
			of[hash] = a
			if !found {
				continue
			}
			labtest.EchoUDP(t, s.Gate, service.Port.Number)
			flow := s.Opening(a, labtest.On(s.Gate, labtest.IPv4), service.Port)
			s.Knock(a, labtest.TCP(1), labtest.TCP(2))
			if got := s.Ask(flow); got != labtest.Received {
				t.Fatalf("a datagram: %s", got)
			}
			s.Knock(other, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1))
			if got := s.Ask(flow); got != labtest.Received {
				t.Errorf("%s has closed %s, and %s gets %s", other, service.Port, a, got)
			}
			s.Knock(a, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1))
			if got := s.Ask(flow); got != labtest.Silence {
				t.Errorf("%s has closed %s itself, and gets %s", a, service.Port, got)
			}
			return
		}
	}
	t.Fatal("no two addresses have one hash")
}

// TestClosedFlow: a flow of UDP that a closing has ended begins anew with each grant, also
// when connection tracking has forgotten it in between, and goes on in both directions as
// soon as an allow entry lets it in.
func TestClosedFlow(t *testing.T) {
	t.Parallel()
	s := labtest.NewScene(t, Backend{})
	const doors = "doors: {vpn: {service: udp/80, knock: {sequence: [1, 2], close: [3, 2, 1]}, open_for: 1h, on_close: cut}}\n"
	labtest.EchoUDP(t, s.Gate, 80)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		s.Up(labtest.Closed + doors)
		src := s.NewAddress(f)
		flow := s.ToGateway(src, labtest.UDP(80))
		expect := func(when string, want labtest.Answer) {
			t.Helper()
			if got := s.Ask(flow); got != want {
				t.Errorf("%s: a datagram got %s, want %s", when, got, want)
			}
		}
		answered := func(when string) {
			t.Helper()
			if _, err := s.Wire.Drain(); err != nil {
				t.Fatal(err)
			}
			s.Send(flow)
			for {
				got, err := s.Wire.Next(labtest.Soon(t))
				if err != nil {
					t.Fatalf("%s: no answer to a datagram: %v", when, err)
				}
				if !got.Out && got.Dst == src && got.UDP != nil {
					return
				}
			}
		}
		open := func() { s.Knock(src, labtest.TCP(1), labtest.TCP(2)) }
		shut := func() { s.Knock(src, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1)) }
		open()
		expect("open", labtest.Received)
		shut()
		expect("closed", labtest.Silence)
		open()
		answered("opened again")
		if err := s.Gateway.Do(func() error { // as after some minutes of silence
			err := netlink.ConntrackTableFlush(netlink.ConntrackTable)
			return errors.Join(err, Backend{}.edit(func(all *batch) { all.flushSet("packets" + f.Digit()) }))
		}); err != nil {
			t.Fatal(err)
		}
		expect("forgotten", labtest.Silence)
		open()
		expect("opened once more", labtest.Received)
		shut()
		expect("closed again", labtest.Silence)

		s.Up(labtest.Closed + "allow: [{from: " + src.String() + "}]\n" + doors)
		answered("allowed")
	})
}

// TestClosedForMany: what is kept of connections stays small where a source that has closed
// its door opens and ends many, or sends what belongs to none.
func TestClosedForMany(t *testing.T) {
	t.Parallel()
	s := labtest.NewScene(t, Backend{})
	s.Up(labtest.Closed + "doors: {web: {service: [tcp/80, udp/80], knock: {sequence: [1, 2], close: [3, 2, 1]}, " +
		"open_for: 1h, admit: any, on_close: cut}}\n")
	labtest.Greet(t, s.Gateway, 80, "hello")
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		src, gate := labtest.On(s.Outside, f), labtest.On(s.Gate, f)
		s.Knock(src, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1))
		for range 3 {
			stray := s.ToGateway(src, labtest.TCP(80))
			stray.TCP.Flags, stray.TCP.Ack = packet.ACK, 1
			s.Ask(stray)
			s.Ask(s.ToGateway(src, labtest.UDP(80)))
		}
		if n := len(lifetimes(t, s, "cut"+f.Digit())); n > 0 {
			t.Errorf("%d packets that belong to no connection are noted as cut ones", n)
		}

		s.Knock(src, labtest.TCP(1), labtest.TCP(2))
		long := func() (n int) {
			for _, life := range lifetimes(t, s, "since"+f.Digit()) {
				if life.left > time.Hour {
					n++
				}
			}
			return n
		}
		open := s.Dial(t, s.Client, netip.AddrPortFrom(gate, 80), "hello")
		ended := s.Dial(t, s.Client, netip.AddrPortFrom(gate, 80), "hello")
		s.Settled()
		if n := long(); n != 2 {
			t.Errorf("%d of two open connections are known for long", n)
		}
		ended.Conn.(*net.TCPConn).CloseWrite()
		if _, err := io.Copy(io.Discard, ended); err != nil {
			t.Error(err)
		}
		s.Settled()
		if err := open.Talk(); err != nil {
			t.Error(err)
		}
		if n := long(); n != 1 {
			t.Errorf("%d connections are known for long, of which one has not ended", n)
		}
	})
}

// TestClosedForLong: what was cut does not come back for as long as its client goes on to
// send. Connection tracking remembers it for as long.
func TestClosedForLong(t *testing.T) {
	t.Parallel()
	s := labtest.NewScene(t, Backend{})
	s.Up(labtest.Closed + "doors: {vpn: {service: udp/80, knock: {sequence: [1, 2], close: [3, 2, 1]}, open_for: 1h, on_close: cut}}\n")
	labtest.EchoUDP(t, s.Gate, 80)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		src := s.NewAddress(f)
		flow := s.ToGateway(src, labtest.UDP(80))
		s.Knock(src, labtest.TCP(1), labtest.TCP(2))
		if got := s.Ask(flow); got != labtest.Received {
			t.Fatalf("a datagram: %s", got)
		}
		s.Knock(src, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1))
		s.Ask(flow)
		if err := s.Gateway.Do(func() error { // as five days later
			for _, set := range []string{"closed", "salt", "cut" + f.Digit()} {
				var all []entry
				_, err := dump(set, func(e element, _ lifetime) bool {
					all = append(all, entry{element: e, expire: time.Minute})
					return true
				})
				if err == nil {
					err = Backend{}.edit(func(b *batch) { b.delElements(set, all); b.addElements(set, all) })
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if got := s.Ask(flow); got != labtest.Silence {
			t.Errorf("a datagram of a flow that was cut: %s", got)
		}
		for _, set := range []string{"closed", "salt", "cut" + f.Digit()} {
			long := 0
			for _, life := range lifetimes(t, s, set) {
				if life.left > time.Hour {
					long++
				}
			}
			if long == 0 {
				t.Errorf("%s forgets what was cut, and what still sends", set)
			}
		}
	})
}

// lifetimes returns how long each element of a set lives.
func lifetimes(t *testing.T, s *labtest.Scene, set string) (all []lifetime) {
	t.Helper()
	if err := s.Gateway.Do(func() error {
		_, err := dump(set, func(_ element, l lifetime) bool {
			all = append(all, l)
			return true
		})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// jhash is the kernel's hash of an address and a service, with seed 1.
func jhash(a netip.Addr, service uint32) uint32 {
	const initial = 0xdeadbeef + 8 + 1
	source := a.As4()
	x, y, z := initial+binary.LittleEndian.Uint32(source[:]), initial+service, uint32(initial)
	z ^= y
	z -= bits.RotateLeft32(y, 14)
	x ^= z
	x -= bits.RotateLeft32(z, 11)
	y ^= x
	y -= bits.RotateLeft32(x, 25)
	z ^= y
	z -= bits.RotateLeft32(y, 16)
	x ^= z
	x -= bits.RotateLeft32(z, 4)
	y ^= x
	y -= bits.RotateLeft32(x, 14)
	z ^= y
	return z - bits.RotateLeft32(y, 24)
}
