package nftables

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/firewall"
	"postern/internal/firewall/conformance"
	"postern/internal/lab/labtest"
)

// TestEarlyDropMoved: an interface that is moved to another network namespace takes the program
// along. There it drops nothing, once the watchdog has seen that it is gone, though the address
// is the same.
func TestEarlyDropMoved(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Closed + earlyDoors)
	k := keeper(t, s.Gateway)
	look := func() error { return k.(firewall.KeyVerifier).VerifyEverywhere(m) }
	if err := s.Gateway.Do(look); err != nil {
		t.Fatal(err)
	}
	other := s.Host("other")
	if err := s.Gateway.Do(func() error {
		l, err := netlink.LinkByName(s.Gate.Name)
		if err != nil {
			return err
		}
		return netlink.LinkSetNsFd(l, other.NetNS())
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Gateway.Do(look); err != nil {
		t.Fatal(err)
	}
	if err := other.Do(func() error {
		l, err := netlink.LinkByName(s.Gate.Name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(s.Gate.Addr4().String() + "/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return err
		}
		return netlink.LinkSetUp(l)
	}); err != nil {
		t.Fatal(err)
	}
	labtest.Greet(t, other, 8080, "hi")
	time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := s.Client.Dial(t.Context(), "tcp", netip.AddrPortFrom(s.Gate.Addr4(), 8080)); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the interface is not up")
		}
	}
	for i := range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond) // a lost SYN is sent again after a second
		conn, err := s.Client.Dial(ctx, "tcp", netip.AddrPortFrom(s.Gate.Addr4(), 8080))
		cancel()
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		conn.Close()
	}
}

// TestEarlyDropTentative: what comes to an address that was still tentative when the watchdog
// looked is dropped early once it has looked again.
func TestEarlyDropTentative(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Closed + earlyDoors)
	k := keeper(t, s.Gateway)
	look := func() error { return k.(firewall.KeyVerifier).VerifyEverywhere(m) }
	to, err := netlink.ParseAddr("2001:db8::100/64")
	if err != nil {
		t.Fatal(err)
	}
	s.Gateway.Sysctl("net.ipv6.conf.all.accept_dad", "1")
	tentative := func() (is bool, err error) {
		l, err := netlink.LinkByName(s.Gate.Name)
		if err != nil {
			return false, err
		}
		all, err := netlink.AddrList(l, netlink.FAMILY_V6)
		return slices.ContainsFunc(all, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }), err
	}
	if err := s.Gateway.Do(func() error {
		if err := look(); err != nil {
			return err
		}
		l, err := netlink.LinkByName(s.Gate.Name)
		if err == nil {
			err = netlink.AddrAdd(l, to)
		}
		if err == nil {
			err = look()
		}
		if is, e := tentative(); e != nil || !is {
			t.Errorf("the address is not tentative: %v", e)
		}
		for is := true; err == nil && is; time.Sleep(10 * time.Millisecond) {
			is, err = tentative()
		}
		return errors.Join(err, look())
	}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
	address, _ := netip.AddrFromSlice(to.IP)
	from := s.NewAddress(labtest.IPv6)
	for range 10 {
		for range 20 {
			s.Send(s.Opening(from, address, labtest.TCP(9)))
		}
		s.Settled()
		time.Sleep(3 * time.Millisecond) // so long a source may still have progress
	}
	if e := s.Inspect().Early; e.Packets < 100 {
		t.Errorf("%d packets of 200 were dropped early", e.Packets)
	}
}
