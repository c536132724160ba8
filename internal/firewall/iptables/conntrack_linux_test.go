package iptables

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall/conformance"
	"postern/internal/host"
	"postern/internal/lab"
)

func TestOldSessions(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) { conformance.OldSessions(t, b) })
}

func TestHalfOpenSession(t *testing.T) {
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) { conformance.HalfOpenSession(t, b) })
}

// TestUntold: a connection that conntrack does not take keeps no other from it.
func TestUntold(t *testing.T) {
	t.Parallel()
	h := lab.NewT(t).Host("host")
	flows := host.Flows{}
	good := func(n byte) host.Flow {
		return host.Flow{
			Local:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 22),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, n}), 50000),
		}
	}
	const n = 20
	for i := range byte(n) {
		flows[good(i)] = host.Open
		bad := good(100 + i)
		bad.Local = netip.MustParseAddrPort("[2001:db8::1]:22") // of the other family
		flows[bad] = host.Open
	}
	err := h.Do(func() error { return track(flows) })
	if err == nil || !strings.Contains(err.Error(), "20 of 40") || len(err.Error()) > 300 {
		t.Errorf("got %v", err)
	}
	err = h.Do(func() error {
		conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		for i := range byte(n) {
			message, err := trackMessage(good(i), host.Open)
			if err != nil {
				return err
			}
			if _, err := conn.Execute(message); !errors.Is(err, unix.EEXIST) {
				t.Errorf("%v was not told: %v", good(i), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
