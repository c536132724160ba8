package packet

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	v4a, v4b = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	v6a, v6b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

// addresses lets cmp compare them, whose fields are their own.
var addresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustAppend(t *testing.T, p *Packet) []byte {
	t.Helper()
	b, err := p.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The sums that RFC 1071 and others work out in full, in all alignments.
func TestChecksum(t *testing.T) {
	for _, test := range []struct {
		octets string
		want   uint16
	}{
		{"0001 f203 f4f5 f6f7", 0x220d},                               // RFC 1071, 3
		{"4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7", 0xb861}, // the usual worked example
		{"", 0xffff},
		{"00", 0xffff},
		{"01", 0xfeff},
		{"ffff", 0},
		{"ffffffff ffffffff ffffffff ffffffff 01", 0xfeff},
	} {
		if got := sum(0).octets(unhex(t, test.octets)).checksum(); got != test.want {
			t.Errorf("checksum of %s is %#04x, want %#04x", test.octets, got, test.want)
		}
	}
}

// Whole packets as other programs have written them. A packet that parses to
// what is expected must be written as the same octets again.
func TestKnownPackets(t *testing.T) {
	for _, test := range []struct {
		name   string
		octets string
		want   Packet
	}{
		{"a kernel's RST", `45000028 00004000 40063cc4 c0000202 cb007109
			0016 9c40 00000000 000003e9 5014 0000 1185 0000`,
			Packet{
				Src: v4b, Dst: netip.MustParseAddr("203.0.113.9"), TTL: 64, Protocol: ProtocolTCP,
				V4:  V4{Flags: DontFragment},
				TCP: &TCP{SrcPort: 22, DstPort: 40000, Ack: 1001, Flags: RST | ACK},
			}},
		{"a kernel's RST in IPv6", `600b72a8 00140640
			20010db8000100000000000000000002 20010db8000f00000000000000000009
			0016 9c40 00000000 000003e9 5014 0000 b404 0000`,
			Packet{
				Src: netip.MustParseAddr("2001:db8:1::2"), Dst: netip.MustParseAddr("2001:db8:f::9"),
				TTL: 64, Protocol: ProtocolTCP, V6: V6{FlowLabel: 0xb72a8},
				TCP: &TCP{SrcPort: 22, DstPort: 40000, Ack: 1001, Flags: RST | ACK},
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			octets := unhex(t, test.octets)
			got, err := Parse(octets)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&test.want, got, addresses); d != "" {
				t.Errorf("parsed as (-want +got):\n%s", d)
			}
			if again := mustAppend(t, &test.want); string(again) != string(octets) {
				t.Errorf("written as\n% x, want\n% x", again, octets)
			}
		})
	}
}
