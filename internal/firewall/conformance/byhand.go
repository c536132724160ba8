package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/host"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// ByHand holds a backend to what grants by hand do: what the last knock does. Revoked,
// nothing is left of them, and what is cut ends. Of the datagrams the backend says whether
// they may go on.
func ByHand(t *testing.T, b firewall.Backend, mayGoOn bool) {
	by, ok := b.(firewall.Granter)
	if !ok {
		t.Skip("the backend gives no grants by hand")
	}
	s := labtest.NewScene(t, b)
	m := s.Up(labtest.Closed + `
source: {ipv4: 24, ipv6: 64}
doors:
  one: {service: [tcp/22, tcp/23], knock: {sequence: [1, 2]}, open_for: 1h}
  any: {service: [tcp/80, udp/80], knock: {sequence: [1, 3]}, open_for: 1h, admit: any}
  lost: {service: tcp/25, knock: {sequence: [1, 4]}, open_for: 1h, forfeit: true}
  also: {service: tcp/22, knock: {sequence: [1, 5]}, open_for: 30m}
`)
	type ending struct {
		of  string
		err error
	}
	ended := make(chan ending, 100)
	for _, port := range []uint16{22, 23, 25} {
		labtest.Greet(t, s.Gateway, port, "hello")
	}
	labtest.Serve(t, s.Gateway, "tcp", ":80", func(conn net.Conn) {
		fmt.Fprintln(conn, "hello")
		_, err := io.Copy(conn, conn)
		ended <- ending{conn.RemoteAddr().String(), err}
	})
	labtest.EchoUDP(t, s.Gate, 80)
	door := func(name string) *automaton.Door {
		for i := range m.Doors {
			if m.Doors[i].Name == name {
				return &m.Doors[i]
			}
		}
		panic(name)
	}
	grant := func(name string, to netip.Addr) {
		t.Helper()
		if err := s.Gateway.Do(func() error { return by.Grant(m, door(name), to, door(name).OpenFor) }); err != nil {
			t.Fatal(err)
		}
	}
	revoke := func(r firewall.Revocation) (gone firewall.Revoked) {
		t.Helper()
		if err := s.Gateway.Do(func() (err error) { gone, err = by.Revoke(m, r); return err }); err != nil {
			t.Fatal(err)
		}
		return gone
	}
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		neighbour := func(a netip.Addr) netip.Addr { return a.Next() }
		apart := func() netip.Addr { // from all others, whatever counts as one source
			if f == labtest.IPv6 {
				return s.NewAddress(f)
			}
			a := s.NewAddress(f).As4()
			return netip.AddrFrom4([4]byte{a[0], a[1], 100 + a[3], 1})
		}

		src := apart()
		grant("one", src)
		for _, port := range []policy.Port{labtest.TCP(22), labtest.TCP(23)} {
			s.Expect(t, neighbour(src), port, labtest.SYNACK, "granted to its source")
			s.Expect(t, src, port, labtest.Silence, "the grant is used")
		}
		grant("one", src)
		grant("also", src)
		grant("also", src)
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "two doors' grants")
		s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "two doors' grants")
		s.Expect(t, src, labtest.TCP(22), labtest.Silence, "two doors' grants, and no third one")
		s.Expect(t, src, labtest.TCP(23), labtest.SYNACK, "the other service of one of them")

		src = apart()
		grant("lost", src)
		s.Knock(src, labtest.TCP(99))
		s.Expect(t, src, labtest.TCP(25), labtest.Silence, "a stray packet loses it")
		grant("lost", src)
		s.Expect(t, src, labtest.TCP(25), labtest.SYNACK, "granted again")

		src = apart()
		s.Knock(src, labtest.TCP(1), labtest.TCP(3))
		s.Expect(t, src, labtest.TCP(80), labtest.SYNACK, "knocked")
		s.Settled()
		if gone := revoke(firewall.Revocation{Door: door("one"), From: src}); gone.Grants != 0 {
			t.Errorf("another door's grants revoked: %+v", gone)
		}
		s.Expect(t, src, labtest.TCP(80), labtest.SYNACK, "another door was revoked")
		if gone := revoke(firewall.Revocation{Door: door("any"), From: neighbour(src)}); gone.Grants != 2 {
			t.Errorf("revoked: %+v", gone)
		}
		s.Expect(t, src, labtest.TCP(80), labtest.Silence, "revoked")
		s.Expect(t, src, labtest.UDP(80), labtest.Silence, "revoked")

		// Sessions.
		src = labtest.On(s.Outside, f)
		at := netip.AddrPortFrom(labtest.On(s.Gate, f), 80)
		grant("any", src)
		cut, spared := s.Dial(t, s.Client, at, "hello"), s.Dial(t, s.Client, at, "hello")
		flow := s.Opening(src, at.Addr(), labtest.UDP(80))
		if got := s.Ask(flow); got != labtest.Received {
			t.Fatalf("a datagram: %s", got)
		}
		revoke(firewall.Revocation{})
		s.Expect(t, src, labtest.TCP(80), labtest.Silence, "all is revoked")
		if got := s.Ask(flow); got != labtest.Received {
			t.Errorf("a datagram of a known flow: %s", got)
		}
		for _, c := range []*labtest.Session{cut, spared} {
			if err := c.Talk(); err != nil {
				t.Errorf("not cut: %v", err)
			}
		}
		own := netip.MustParseAddrPort(spared.LocalAddr().String())
		gone := revoke(firewall.Revocation{Door: door("any"), From: src, Cut: true, Spare: []host.Way{{Protocol: policy.TCP, Remote: own}}})
		if gone.Connections != 2 || gone.Spared != 1 || (gone.MayGoOn == 1) != mayGoOn {
			t.Errorf("cut: %+v", gone)
		}
		for e := range ended {
			if e.of == cut.LocalAddr().String() {
				if e.err == nil {
					t.Error("the server's end ended as if the client had ended it")
				}
				break
			}
		}
		cut.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := cut.Lines.ReadString('\n'); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the client's end: %v", err)
		}
		if err := spared.Talk(); err != nil {
			t.Errorf("spared: %v", err)
		}
		if got := s.Ask(flow); got != labtest.Silence {
			t.Errorf("a datagram of a flow that was cut: %s", got)
		}
		spared.Close()
		grant("any", src)
		if err := s.Dial(t, s.Client, at, "hello").Talk(); err != nil {
			t.Errorf("the socket that listens has outlived the cut: %v", err)
		}
		if got := s.Ask(flow); got != labtest.Received {
			t.Errorf("a datagram of a flow that was cut, granted again: %s", got)
		}
	})
}
