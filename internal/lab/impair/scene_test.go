//go:build linux

package impair_test

import (
	"net/netip"
	"testing"

	"postern/internal/lab"
	"postern/internal/packet"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

const (
	net4 = "192.0.2.0/24"
	net6 = "2001:db8:1::/64"
)

// both runs a test once in each family, with the address that a link has in it.
func both(t *testing.T, test func(t *testing.T, addr func(*lab.Link) netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) { test(t, (*lab.Link).Addr4) })
	t.Run("IPv6", func(t *testing.T) { test(t, (*lab.Link).Addr6) })
}

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
