//go:build linux

package labtest

import (
	"net/netip"
	"testing"

	"postern/internal/lab"
)

// A Family is one of the two IP versions.
type Family int

const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both.
var Families = []Family{IPv4, IPv6}

func (f Family) String() string {
	if f == IPv4 {
		return "ipv4"
	}
	return "ipv6"
}

// Digit returns 4 or 6, for names that end in it.
func (f Family) Digit() string { return f.String()[3:] }

// Of returns the family of an address.
func Of(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// On returns the link's address of a family.
func On(k *lab.Link, f Family) netip.Addr {
	if f == IPv4 {
		return k.Addr4()
	}
	return k.Addr6()
}

// Each runs a test for both families.
func Each(t *testing.T, test func(t *testing.T, f Family)) {
	for _, f := range Families {
		t.Run(f.String(), func(t *testing.T) { test(t, f) })
	}
}
