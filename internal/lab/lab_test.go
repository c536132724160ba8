//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/impair"
	"postern/internal/lab/labtest"
)

const (
	net4 = "192.0.2.0/24"
	net6 = "2001:db8:1::/64"
)

// soon is a context for what takes no time unless it is broken.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// both runs a test once in each family, with the address that a link has in it.
func both(t *testing.T, test func(t *testing.T, addr func(*lab.Link) netip.Addr)) {
	t.Run("IPv4", func(t *testing.T) { test(t, (*lab.Link).Addr4) })
	t.Run("IPv6", func(t *testing.T) { test(t, (*lab.Link).Addr6) })
}

func TestPingPong(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	_, atB := l.Connect(a, b, net4, net6)
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		labtest.PingPong(t, a, b, "tcp", addr(atB))
		labtest.PingPong(t, a, b, "udp", addr(atB))
	})
}

// A host has its own loopback, up and running.
func TestLoopback(t *testing.T) {
	l := lab.NewT(t)
	a := l.Host("a")
	labtest.PingPong(t, a, a, "tcp", netip.MustParseAddr("127.0.0.1"))
	labtest.PingPong(t, a, a, "tcp", netip.IPv6Loopback())
}

func TestRoute(t *testing.T) {
	l := lab.NewT(t)
	client, gw, inner := l.Host("client"), l.Host("gw"), l.Host("inner")
	_, outside := l.Connect(client, gw, net4, net6)
	inside, atInner := l.Connect(gw, inner, "198.51.100.0/24", "2001:db8:2::/64")
	client.Route("198.51.100.0/24", outside.Addr4())
	client.Route("2001:db8:2::/64", outside.Addr6())
	inner.Route("0.0.0.0/0", inside.Addr4())
	inner.Route("::/0", inside.Addr6())
	gw.Sysctl("net.ipv4.ip_forward", "1")
	gw.Sysctl("net.ipv6.conf.all.forwarding", "1")
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		labtest.PingPong(t, client, inner, "tcp", addr(atInner))
		labtest.PingPong(t, client, inner, "udp", addr(atInner))
	})
}

// A client that connects after a move comes from the new address, and the old one is
// gone, over a cable and a bad network.
func TestRenumber(t *testing.T) {
	for name, connect := range map[string]func(*lab.Lab, *lab.Host, *lab.Host, ...string) (*lab.Link, *lab.Link){
		"cable": (*lab.Lab).Connect,
		"impaired": func(l *lab.Lab, a, b *lab.Host, prefixes ...string) (*lab.Link, *lab.Link) {
			atA, atB, _ := impair.Connect(l, a, b, impair.Impairment{}, prefixes...)
			return atA, atB
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := lab.NewT(t)
			a, b := l.Host("a"), l.Host("b")
			atA, atB := connect(l, a, b, net4, net6)
			ln, err := b.Listen(soon(t), "tcp", ":22")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			for _, to := range []string{"192.0.2.7/24 2001:db8:1::7/64", "192.0.2.8/24 2001:db8:1::8/64"} {
				old := atA.Addr4()
				atA.Renumber(strings.Fields(to)...)
				both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
					conn, err := a.Dial(soon(t), "tcp", netip.AddrPortFrom(addr(atB), 22))
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					accepted, err := ln.Accept()
					if err != nil {
						t.Fatal(err)
					}
					defer accepted.Close()
					if got := netip.MustParseAddrPort(accepted.RemoteAddr().String()).Addr(); got != addr(atA) || got == old {
						t.Errorf("came from %s after the move to %s", got, to)
					}
				})
				if _, err := a.Listen(soon(t), "tcp", netip.AddrPortFrom(old, 0).String()); err == nil {
					t.Errorf("%s is still there after the move to %s", old, to)
				}
			}
		})
	}
}

func TestBridge(t *testing.T) {
	l := lab.NewT(t)
	a, b, sw := l.Host("a"), l.Host("b"), l.Host("switch")
	atA, port1 := l.Connect(a, sw)
	atB, port2 := l.Connect(b, sw)
	br := l.Bridge(sw, "br0", port1, port2)
	atA.AddAddress("192.0.2.1/24", "2001:db8:1::1/64")
	atB.AddAddress("192.0.2.2/24", "2001:db8:1::2/64")
	br.AddAddress("192.0.2.3/24", "2001:db8:1::3/64")
	both(t, func(t *testing.T, addr func(*lab.Link) netip.Addr) {
		labtest.PingPong(t, a, b, "tcp", addr(atB))
		labtest.PingPong(t, a, sw, "tcp", addr(br))
	})
}

// Names lead to the other end, and a second cable has its own.
func TestNames(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	l.Connect(a, b)
	l.Connect(b, a)
	var names []string
	err := a.Do(func() error {
		links, err := net.Interfaces()
		for _, i := range links {
			names = append(names, i.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"lo", "b", "b2"}; len(names) != 3 || names[0] != want[0] || names[1] != want[1] || names[2] != want[2] {
		t.Errorf("host a has the interfaces %q, want %q", names, want)
	}
}

// Addresses can be used at once, link-local ones too: the host has joined the
// groups by which neighbours find them. The kernel is mostly fast enough by
// itself, so it takes several cables to see.
func TestAddressesAreReady(t *testing.T) {
	l := lab.NewT(t)
	a, b := l.Host("a"), l.Host("b")
	for i := range 20 {
		link, _ := l.Connect(a, b, fmt.Sprintf("2001:db8:%d::/64", i))
		read := func(file string) (table []byte) {
			t.Helper()
			err := a.Do(func() (err error) {
				table, err = os.ReadFile("/proc/thread-self/net/" + file)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			return table
		}
		joined := func(octets string) {
			t.Helper()
			groups := read("igmp6") // index, name, group …
			if !regexp.MustCompile(`(?m)^\d+ +` + link.Name + ` +ff0200000000000000000001ff` + octets).Match(groups) {
				t.Fatalf("link %q has not joined the group of address %s:\n%s", link.Name, octets, groups)
			}
		}
		// address, index, length, scope (link), flags (permanent, not tentative), name
		addresses := read("if_inet6")
		if !regexp.MustCompile(`(?m)^fe80\w+ \w+ 40 20 80 +` + link.Name + `$`).Match(addresses) {
			t.Fatalf("no link-local address in use on link %q:\n%s", link.Name, addresses)
		}
		joined("000001")
		link.AddAddress(fmt.Sprintf("2001:db8:%d::77/64", i))
		joined("000077")
	}
}
