package knocker

import (
	"net/netip"
	"testing"
)

// TestBound: a token is bound to an address if the server sees that one.
func TestBound(t *testing.T) {
	for _, test := range []struct {
		own, to string
		bound   bool
	}{
		{"203.0.113.7", "192.0.2.1", true},
		{"2001:db8::7", "2001:db8:1::1", true},
		{"2a02:8070::7", "2001:db8:1::1", true},
		{"10.0.0.7", "192.0.2.1", false},
		{"192.168.1.7", "192.168.1.1", false},
		{"172.16.0.7", "192.0.2.1", false},
		{"169.254.0.7", "169.254.0.1", false},
		{"100.64.0.7", "192.0.2.1", false}, // behind a provider's NAT
		{"192.0.0.2", "192.0.2.1", false},  // a phone's IPv4, over NAT64
		{"198.18.0.7", "192.0.2.1", false},
		{"127.0.0.1", "127.0.0.1", false},
		{"::1", "::1", false},
		{"fd00::7", "2001:db8::1", false},
		{"fe80::7%eth0", "fe80::1%eth0", false},
		{"2001:db8::7", "64:ff9b::c000:201", false}, // NAT64: the server sees IPv4
		{"2001:db8::7", "64:ff9b:1::c000:201", false},
	} {
		own := netip.MustParseAddr(test.own)
		want := netip.Addr{}
		if test.bound {
			want = own
		}
		if got := boundTo(own, netip.MustParseAddr(test.to)); got != want {
			t.Errorf("from %s to %s: got %v, want %v", test.own, test.to, got, want)
		}
	}
}
