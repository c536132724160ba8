package policy

import (
	"net/netip"
	"testing"
)

func TestServesAndWelcomes(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name             string
		door             Door
		source           string
		serves, welcomes bool
	}{
		{"any door, IPv4", Door{}, "192.0.2.1", true, true},
		{"any door, IPv6", Door{}, "2001:db8::1", true, true},
		{"IPv4 door", Door{Address: addr("198.51.100.1")}, "2001:db8::1", false, true},
		{"IPv4 door, IPv4 in IPv6 form", Door{Address: addr("198.51.100.1")}, "::ffff:192.0.2.1", true, true},
		{"IPv6 door", Door{Address: addr("2001:db8::2")}, "2001:db8::1", true, true},
		{"IPv6 forward", Door{Forward: netip.MustParseAddrPort("[2001:db8::2]:443")}, "192.0.2.1", false, true},
		{"inside from", Door{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "192.0.2.255", true, true},
		{"inside from, in IPv6 form", Door{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "::ffff:192.0.2.9", true, true},
		{"outside from", Door{From: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, "192.0.3.0", true, false},
		{"link-local with its zone", Door{From: []netip.Prefix{netip.MustParsePrefix("fe80::/10")}}, "fe80::1%eth0", true, true},
	} {
		if got := c.door.HasFamilyOf(addr(c.source)); got != c.serves {
			t.Errorf("%s: serves %v", c.name, got)
		}
		if got := c.door.AcceptsFrom(addr(c.source)); got != c.welcomes {
			t.Errorf("%s: welcomes %v", c.name, got)
		}
	}
}

func TestMark(t *testing.T) {
	for text, want := range map[string]string{
		"1": "0x1", "4096": "0x1000", "0x1000": "0x1000", "0XFf": "0xff", "4294967295": "0xffffffff", "0xffffffff": "0xffffffff",
		"0": "", "0x0": "", "-1": "", "+1": "", "010": "", "0b1": "", "1_0": "", "0x1_0": "", "0x": "", "x1": "", "1000h": "",
		"0x-1": "", "0x+1": "", "0x1/0x1": "", "0x100000000": "", "4294967296": "",
	} {
		m, f := mark(text)
		if got := m.String(); f == nil && got != want || f != nil && want != "" {
			t.Errorf("%s is read as %s (%v), want %q", text, got, f, want)
		}
	}
}

func TestMask(t *testing.T) {
	s := Source{IPv4: 24, IPv6: 64}
	for addr, want := range map[string]string{
		"192.0.2.77":        "192.0.2.0",
		"::ffff:192.0.2.77": "192.0.2.0",
		"2001:db8:1:2:3::4": "2001:db8:1:2::",
		"fe80::1%eth0":      "fe80::",
	} {
		if got := s.Mask(netip.MustParseAddr(addr)); got.String() != want {
			t.Errorf("%s is of the source %s, want %s", addr, got, want)
		}
	}
	if got := (Source{IPv4: 32, IPv6: 128}).Mask(netip.MustParseAddr("2001:db8::5")); got.String() != "2001:db8::5" {
		t.Errorf("a whole address became %s", got)
	}
}
