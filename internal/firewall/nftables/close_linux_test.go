package nftables

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"testing"

	"postern/internal/firewall/conformance"
	"postern/internal/lab/labtest"
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
