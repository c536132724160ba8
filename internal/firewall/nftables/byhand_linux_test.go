package nftables

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"postern/internal/firewall"
	"postern/internal/firewall/conformance"
	"postern/internal/lab/labtest"
)

func TestByHand(t *testing.T) {
	t.Parallel()
	conformance.ByHand(t, Backend{}, false)
}

// TestCutStaysCut: a session that was cut does not go on when the server sends first,
// which connection tracking takes for a new connection of the server's.
func TestCutStaysCut(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddInner()
	m := s.Up(labtest.Closed + `
doors:
  names: {service: udp/53, knock: {sequence: [1, 2]}, admit: any, open_for: 1h}
  web: {service: tcp/443, forward: "10.0.0.2:443", knock: {sequence: [1, 3]}, open_for: 1h}
  web6: {service: tcp/444, forward: "[2001:db8:1::2]:444", knock: {sequence: [1, 4]}, open_for: 1h}
`)
	// As home routers do: what leaves has this host's address, and its port if that is free.
	load := s.Gateway.Command(t.Context(), "nft", "-f", "-")
	load.Stdin = strings.NewReader("table inet others { chain post { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/24 ip daddr 192.0.2.0/24 masquerade; ip6 saddr 2001:db8:1::/64 ip6 daddr 2001:db8::/64 masquerade; }; }")
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		port, web := uint16(443), 1
		if f == labtest.IPv6 {
			port, web = 444, 2
		}
		said, conns := make(chan string, 10), make(chan net.Conn, 1)
		labtest.Serve(t, s.Inner, "tcp", fmt.Sprintf(":%d", port), func(conn net.Conn) {
			conns <- conn
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				said <- lines.Text()
			}
		})
		src := labtest.On(s.Outside, f)
		grant := func(door int) {
			t.Helper()
			d := &m.Doors[door]
			if err := s.Gateway.Do(func() error { return Backend{}.Grant(m, d, src, d.OpenFor) }); err != nil {
				t.Fatal(err)
			}
		}
		cut := func(door int) {
			t.Helper()
			var gone firewall.Revoked
			if err := s.Gateway.Do(func() (err error) {
				gone, err = Backend{}.Revoke(m, firewall.Revocation{Door: &m.Doors[door], From: src, Cut: true})
				return err
			}); err != nil || gone.Connections != 1 {
				t.Fatalf("%+v, %v", gone, err)
			}
		}

		t.Run("forwarded", func(t *testing.T) {
			grant(web)
			c := s.Dial(t, s.Client, netip.AddrPortFrom(labtest.On(s.Gate, f), port), "")
			server := <-conns
			fmt.Fprintln(c, "first")
			if got := <-said; got != "first" {
				t.Fatal(got)
			}
			cut(web)
			fmt.Fprintln(server, "from the server")
			s.Settled()
			fmt.Fprintln(c, "second")
			s.Settled()
			time.Sleep(300 * time.Millisecond) // in which either side sends again
			select {
			case got := <-said:
				t.Errorf("the server has heard %q", got)
			default:
			}
		})

		t.Run("datagrams", func(t *testing.T) {
			server, err := s.Gateway.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(labtest.On(s.Gate, f), 53).String())
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			flow := s.Opening(src, labtest.On(s.Gate, f), labtest.UDP(53))
			answer := func() {
				t.Helper()
				if _, err := server.WriteTo([]byte("hello"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, flow.UDP.SrcPort))); err != nil {
					t.Fatal(err)
				}
				s.Settled()
			}
			grant(0)
			if got := s.Ask(flow); got != labtest.Received {
				t.Fatal(got)
			}
			answer()
			cut(0)
			answer()
			if got := s.Ask(flow); got != labtest.Silence {
				t.Errorf("after the cut: %s", got)
			}
			grant(0)
			answer()
			if got := s.Ask(flow); got != labtest.Received {
				t.Errorf("granted again: %s", got)
			}
			// What was admitted is forgotten, as it is after a while.
			if err := s.Gateway.Do(func() error {
				_, err := Backend{}.Revoke(m, firewall.Revocation{})
				return errors.Join(err, Backend{}.edit(func(all *batch) { all.flushSet("packets" + of(src).suffix()) }))
			}); err != nil {
				t.Fatal(err)
			}
			if got := s.Ask(flow); got != labtest.Received {
				t.Errorf("a known flow: %s", got)
			}
		})
	})
}

// TestGrantOutlivesKnocks: a grant by hand that lives longer than any by knocks is found
// for all of its time, whatever its source knocks for meanwhile.
func TestGrantOutlivesKnocks(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Closed + `
doors:
  one: {service: tcp/22, knock: {sequence: [1, 2]}, open_for: 500ms, admit: any}
  two: {service: tcp/22, knock: {sequence: [1, 3]}, open_for: 500ms, admit: any}
`)
	labtest.Greet(t, s.Gateway, 22, "hello")
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		src := s.NewAddress(f)
		if err := s.Gateway.Do(func() error { return Backend{}.Grant(m, &m.Doors[0], src, time.Minute) }); err != nil {
			t.Fatal(err)
		}
		s.Knock(src, labtest.TCP(1), labtest.TCP(3))
		time.Sleep(700 * time.Millisecond)
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "granted by hand, for longer")
	})
}

// TestGrantIsForOneConnection: two connections at the same moment cannot both use a grant
// by hand, as they cannot that of a knock (see TestOneGrantOneConnection).
func TestGrantIsForOneConnection(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1]}, open_for: 1h}}\n")
	if err := s.Gateway.Do(func() error { return Backend{}.Grant(m, &m.Doors[0], s.NewAddress(labtest.IPv4), time.Minute) }); err != nil {
		t.Fatal(err)
	}
	out, err := s.Gateway.Command(t.Context(), "nft", "list", "set", "inet", Table, "once4").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "limit rate 1/week burst 1 packets") {
		t.Errorf("%v: %s", err, out)
	}
}
