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

// samples are packets that use every field.
func samples() map[string]*Packet {
	payload := []byte("knock, knock")
	return map[string]*Packet{
		"syn": {Src: v4a, Dst: v4b, TCP: &TCP{SrcPort: 40000, DstPort: 22, Seq: 1<<32 - 1, Flags: SYN,
			Window: 64240, Options: []byte{2, 4, 5, 180}}},
		"every tcp field": {Src: v4a, Dst: v4b, TTL: 1, TrafficClass: 0xff, Protocol: ProtocolTCP,
			V4: V4{ID: 0xabcd, Flags: DontFragment | ReservedFlag, Options: []byte{1, 1, 1, 0}, ChecksumError: 0x1234},
			TCP: &TCP{SrcPort: 1, DstPort: 65535, Seq: 2, Ack: 3, Flags: 0xfff, Window: 4, Urgent: 5,
				Options: make([]byte, 40), ChecksumError: 0x8001},
			Payload: payload},
		"udp":              {Src: v6a, Dst: v6b, UDP: &UDP{SrcPort: 53, DstPort: 4000}, Payload: payload},
		"udp, no checksum": {Src: v4a, Dst: v4b, UDP: &UDP{SrcPort: 53, DstPort: 4000, NoChecksum: true}, Payload: payload},
		"udp, wrong":       {Src: v4a, Dst: v4b, UDP: &UDP{SrcPort: 53, DstPort: 4000, ChecksumError: 1}},
		"echo":             {Src: v4a, Dst: v4b, ICMP: &ICMP{Type: EchoRequest, ID: 7, Seq: 8}, Payload: payload},
		"echo v6":          {Src: v6a, Dst: v6b, ICMP: &ICMP{Type: EchoRequestV6, ID: 7, Seq: 8, ChecksumError: 3}},
		"unreachable":      {Src: v4a, Dst: v4b, ICMP: &ICMP{Type: Unreachable, Code: 3}, Payload: make([]byte, 28)},
		"other protocol":   {Src: v4a, Dst: v4b, Protocol: 50, Payload: payload},
		"nothing at all":   {Src: v6a, Dst: v6b, Protocol: 59},
		"fragment":         {Src: v4a, Dst: v4b, V4: V4{Flags: MoreFragments, Offset: 65528}, Protocol: ProtocolTCP, Payload: payload},
		"short header":     {Src: v4a, Dst: v4b, Protocol: ProtocolTCP, Payload: payload},
		"extension headers": {Src: v6a, Dst: v6b, TTL: 255, TrafficClass: 0xb8,
			V6: V6{FlowLabel: 0xfffff, Extensions: []Extension{HopByHop(5, 2, 0, 0), DestinationOptions(make([]byte, 100)...),
				RoutingHeader(0, 0, make([]byte, 20)...), FragmentHeader(9, 0, 0), DestinationOptions()}},
			TCP: &TCP{SrcPort: 1, DstPort: 2, Flags: FIN | PSH | URG}},
		"fragment v6": {Src: v6a, Dst: v6b, V6: V6{Extensions: []Extension{FragmentHeader(1<<31, 8, MoreFragments)}},
			Protocol: ProtocolDestinationOptions, Payload: payload},
	}
}

// What is written is read back as it was, and written again the same.
func TestRoundTrip(t *testing.T) {
	for name, p := range samples() {
		t.Run(name, func(t *testing.T) {
			octets := mustAppend(t, p)
			got, err := Parse(append(octets[:len(octets):len(octets)], "padding of the link"...))
			if err != nil {
				t.Fatal(err)
			}
			want := *p
			want.Protocol = p.protocol()
			if want.TTL == 0 {
				want.TTL = DefaultTTL
			}
			if d := cmp.Diff(&want, got, addresses); d != "" {
				t.Errorf("read back as (-want +got):\n%s", d)
			}
			if d := Diff(&want, got); d != nil {
				t.Errorf("Diff finds %v", d)
			}
			if again := mustAppend(t, got); string(again) != string(octets) {
				t.Errorf("written again as\n% x, want\n% x", again, octets)
			}
			prefix := []byte("prefix")
			if longer, err := p.Append(prefix); err != nil || string(longer) != "prefix"+string(octets) {
				t.Errorf("appended as % x, %v", longer, err)
			}
		})
	}
}

// A checksum is right exactly when everything under it adds up to zero.
func TestTransportChecksum(t *testing.T) {
	for name, p := range samples() {
		wrong := p.TCP != nil && p.TCP.ChecksumError != 0 || p.UDP != nil && (p.UDP.ChecksumError != 0 || p.UDP.NoChecksum) ||
			p.ICMP != nil && p.ICMP.ChecksumError != 0
		if p.TCP == nil && p.UDP == nil && p.ICMP == nil {
			continue
		}
		octets := mustAppend(t, p)
		whole, err := Parse(octets)
		if err != nil {
			t.Fatal(err)
		}
		header := 20 + len(p.V4.Options)
		if p.Src.Is6() {
			header = 40
			for _, e := range whole.V6.Extensions {
				header += 1 + len(e.Body)
			}
		}
		// The pseudo header, written out.
		var b []byte
		if proto := p.protocol(); proto != ProtocolICMP {
			b = append(p.Src.AsSlice(), p.Dst.AsSlice()...)
			b = append(b, 0, byte(proto), 0, byte(len(octets)-header))
		}
		b = append(b, octets[header:]...)
		if len(b)%2 == 1 {
			b = append(b, 0)
		}
		total := 0
		for i := 0; i < len(b); i += 2 {
			total += int(b[i])<<8 | int(b[i+1])
		}
		for total > 0xffff {
			total = total>>16 + total&0xffff
		}
		if right := total == 0xffff; right == wrong {
			t.Errorf("%s: adds up to %#x, wrong on purpose: %v", name, total, wrong)
		}
	}
}

// A UDP checksum that comes out as zero is written as 0xffff: zero would say
// that there is none.
func TestZeroUDPChecksum(t *testing.T) {
	p := &Packet{Src: v4a, Dst: v4b, UDP: &UDP{SrcPort: 1, DstPort: 2}, Payload: []byte{0, 0}}
	c := mustAppend(t, p)[26:28]
	p.Payload = []byte{c[0], c[1]}
	octets := mustAppend(t, p)
	if octets[26] != 0xff || octets[27] != 0xff {
		t.Fatalf("checksum % x, want ff ff", octets[26:28])
	}
	if got, err := Parse(octets); err != nil || got.UDP.NoChecksum || got.UDP.ChecksumError != 0 {
		t.Errorf("read back as %+v, %v", got.UDP, err)
	}
}

// What cannot be written is refused, with what was asked for.
func TestAppendErrors(t *testing.T) {
	for _, test := range []struct {
		p    Packet
		want string
	}{
		{Packet{}, "needs a source and a destination"},
		{Packet{Src: v4a, Dst: v6b}, "192.0.2.1 and destination 2001:db8::2 are of two families"},
		{Packet{Src: v4a, Dst: v4b, TCP: &TCP{}, UDP: &UDP{}}, "more than one"},
		{Packet{Src: v4a, Dst: v4b, V6: V6{Extensions: []Extension{HopByHop()}}}, "extension headers in an IPv4"},
		{Packet{Src: v4a, Dst: v4b, V4: V4{Options: make([]byte, 41)}}, "41 octets"},
		{Packet{Src: v4a, Dst: v4b, V4: V4{Offset: 12}}, "offset 12"},
		{Packet{Src: v4a, Dst: v4b, V4: V4{Offset: 65536}}, "offset 65536"},
		{Packet{Src: v6a, Dst: v6b, V6: V6{FlowLabel: 1 << 20}}, "0x100000"},
		{Packet{Src: v6a, Dst: v6b, TCP: &TCP{Options: make([]byte, 44)}}, "44 octets"},
		{Packet{Src: v6a, Dst: v6b, TCP: &TCP{Flags: 1 << 12}}, "0x1000"},
		{Packet{Src: v4a, Dst: v4b, Payload: make([]byte, 65516)}, "65536 octets"},
		{Packet{Src: v6a, Dst: v6b, Payload: make([]byte, 65536)}, "65576 octets"},
	} {
		b, err := test.p.Append([]byte("before"))
		if err == nil || !strings.Contains(err.Error(), test.want) || string(b) != "before" {
			t.Errorf("got %q and %v, want an error with %q", b, err, test.want)
		}
	}
	for _, fits := range []Packet{
		{Src: v4a, Dst: v4b, Payload: make([]byte, 65515)},
		{Src: v6a, Dst: v6b, Payload: make([]byte, 65535)},
	} {
		mustAppend(t, &fits)
	}
}

// What is broken is refused; what is merely unknown or cut short stays.
func TestParseErrors(t *testing.T) {
	whole := mustAppend(t, samples()["every tcp field"])
	whole6 := mustAppend(t, samples()["udp"])
	change := func(b []byte, at int, to byte) []byte {
		b = append([]byte(nil), b...)
		b[at] = to
		return b
	}
	for _, test := range []struct {
		octets []byte
		want   string
	}{
		{nil, "empty"},
		{[]byte{0x50}, "IP version 5"},
		{whole[:19], "19 octets are too short for an IPv4 header"},
		{whole[:len(whole)-1], "IPv4 header of 24 octets in a packet of 96, of which 95 are here"},
		{change(whole, 0, 0x44), "IPv4 header of 16 octets"},
		{change(whole, 3, 23), "in a packet of 23"},
		{whole6[:39], "39 octets are too short for an IPv6 header"},
		{whole6[:len(whole6)-1], "IPv6 packet of 60 octets, of which 59 are here"},
	} {
		if p, err := Parse(test.octets); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("got %v and %v, want an error with %q", p, err, test.want)
		}
	}
	for _, octets := range [][]byte{
		change(whole, 24+12, 0x40),   // a TCP header of 16 octets
		change(whole6, 40+4, 1),      // a UDP length beyond the packet
		change(whole6, 6, 0),         // hop-by-hop options longer than the packet
		change(whole6, 40+5, 8),      // a UDP length that leaves octets over
		change(whole, 9, 1),          // not TCP but ICMP: any 8 octets will do
		change(whole6, 6, byte(255)), // an unknown protocol
	} {
		p, err := Parse(octets)
		if err != nil {
			t.Errorf("% x: %v", octets, err)
			continue
		}
		if p.TCP != nil || p.UDP != nil {
			t.Errorf("% x: read as %s", octets, p)
		}
		if again := mustAppend(t, p); string(again) != string(octets) {
			t.Errorf("written again as\n% x, want\n% x", again, octets)
		}
	}
}

// The parts of a packet, put together, are its octets; in IPv6 every part
// repeats the headers that routers read.
func TestFragments(t *testing.T) {
	for _, test := range []struct {
		name string
		p    Packet
		at   []int
		fix  int // octets in front of the first that may be cut
		cut  int // octets of IP header in each part
	}{
		{"v4", Packet{Src: v4a, Dst: v4b, V4: V4{Flags: DontFragment}, TCP: &TCP{DstPort: 22, Flags: SYN}}, []int{8, 16}, 20, 20},
		{"v4 whole", Packet{Src: v4a, Dst: v4b, TCP: &TCP{DstPort: 22, Flags: SYN}}, nil, 20, 20},
		{"v4 options", Packet{Src: v4a, Dst: v4b, V4: V4{Options: []byte{1, 1, 0}}, TCP: &TCP{Flags: SYN}}, []int{16}, 24, 24},
		{"v6", Packet{Src: v6a, Dst: v6b, TCP: &TCP{DstPort: 22, Flags: SYN}}, []int{8}, 40, 48},
		{"v6 options", Packet{Src: v6a, Dst: v6b, TCP: &TCP{DstPort: 22, Flags: SYN},
			V6: V6{Extensions: []Extension{HopByHop(), DestinationOptions()}}}, []int{8, 24}, 48, 56},
	} {
		t.Run(test.name, func(t *testing.T) {
			whole := mustAppend(t, &test.p)
			parts, err := test.p.Fragments(0xabcdef12, test.at...)
			if err != nil {
				t.Fatal(err)
			}
			if len(parts) != len(test.at)+1 {
				t.Fatalf("%d parts", len(parts))
			}
			var together []byte
			for i := range parts {
				octets := mustAppend(t, &parts[i])
				got, err := Parse(octets)
				if err != nil {
					t.Fatal(err)
				}
				offset, more, id := got.V4.Offset, got.V4.Flags&MoreFragments != 0, uint32(got.V4.ID)
				if got.Src.Is6() {
					h := got.V6.Extensions[len(got.V6.Extensions)-1]
					offset, more = int(h.Body[1])<<8|int(h.Body[2])&^7, h.Body[2]&1 != 0
					id = uint32(h.Body[3])<<24 | uint32(h.Body[4])<<16 | uint32(h.Body[5])<<8 | uint32(h.Body[6])
				} else {
					id |= 0xabcd0000
					if got.V4.Flags&DontFragment != 0 {
						t.Error("a fragment that must not be one")
					}
				}
				if offset != len(together) || more != (i < len(test.at)) || id != 0xabcdef12 {
					t.Errorf("part %d: offset %d, more %v, id %#x", i, offset, more, id)
				}
				if len(parts) > 1 != got.IsFragment() || len(parts) > 1 && got.TCP != nil {
					t.Errorf("part %d is read as %s", i, got)
				}
				together = append(together, octets[test.cut:]...)
			}
			if string(together) != string(whole[test.fix:]) {
				t.Errorf("together they are\n% x, want\n% x", together, whole[test.fix:])
			}
		})
	}
	p := samples()["syn"]
	for _, at := range [][]int{{4}, {0}, {24}, {16, 8}, {8, 8}, {-8}} {
		if _, err := p.Fragments(1, at...); err == nil {
			t.Errorf("cut 24 octets at %v", at)
		}
	}
	parts, err := p.Fragments(1, 8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parts[0].Fragments(1, 8); err == nil {
		t.Error("cut a fragment")
	}
}

// Writing a packet again and again allocates nothing.
func TestAppendAllocates(t *testing.T) {
	for name, p := range samples() {
		b := make([]byte, 0, 512)
		if n := testing.AllocsPerRun(100, func() { b, _ = p.Append(b[:0]) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestDiff(t *testing.T) {
	a := samples()["every tcp field"]
	b := *a
	tcp := *a.TCP
	b.TTL, b.V4.Options, b.TCP = 63, []byte{1}, &tcp
	b.TCP.Window, b.TCP.Flags = 9, RST|ACK
	var got []string
	for _, d := range Diff(a, &b) {
		got = append(got, d.String())
	}
	want := []string{
		"TTL: 1, not 63",
		"V4.Options: 01010100, not 01",
		"TCP.Flags: [FSRP.UEWe?], not [R.]",
		"TCP.Window: 4, not 9",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	b = Packet{Src: v6a, Dst: a.Dst, TTL: 1}
	if d := Diff(&Packet{Src: v6a, Dst: a.Dst, TTL: 1, UDP: &UDP{SrcPort: 9}}, &b); len(d) != 1 || d[0].Field != "UDP" || d[0].B != "none" {
		t.Errorf("got %v", d)
	}
}

func TestString(t *testing.T) {
	for name, want := range map[string]string{
		"syn":            "192.0.2.1:40000 > 192.0.2.2:22 tcp [S] seq 4294967295 ack 0 win 64240",
		"udp":            "[2001:db8::1]:53 > [2001:db8::2]:4000 udp +12 octets",
		"echo v6":        "2001:db8::1 > 2001:db8::2 icmpv6 type 128 code 0 id 7 seq 8",
		"other protocol": "192.0.2.1 > 192.0.2.2 protocol 50 +12 octets",
		"fragment":       "192.0.2.1 > 192.0.2.2 tcp fragment +12 octets",
	} {
		if got := samples()[name].String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// Whatever comes in is refused, or read so that it is written again as it was.
func FuzzParse(f *testing.F) {
	for _, p := range samples() {
		b, err := p.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Parse(b)
		if err != nil {
			return
		}
		_ = p.String()
		if p.TTL == 0 {
			return // written as DefaultTTL
		}
		again, err := p.Append(nil)
		if err != nil {
			t.Fatalf("% x was read as %s and cannot be written: %v", b, p, err)
		}
		if len(again) > len(b) || string(again) != string(b[:len(again)]) {
			t.Fatalf("% x was read as %s and written as % x", b, p, again)
		}
		q, err := Parse(again)
		if err != nil {
			t.Fatal(err)
		}
		if d := Diff(p, q); d != nil {
			t.Fatalf("read again: %v", d)
		}
	})
}
