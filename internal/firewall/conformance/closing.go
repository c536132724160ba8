//go:build linux

package conformance

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// Closing holds a backend to what the knocks do that close a door: what the door has granted
// is gone, and connections go on, or end where the policy says so. Nothing brings those
// back; a flow of UDP begins anew with the next grant.
func Closing(t *testing.T, b firewall.Backend, cover policy.Cover, onClose policy.OnClose) {
	s := labtest.NewScene(t, b)
	s.AddInner()
	doors := labtest.Closed + fmt.Sprintf(`
cover: %[1]s
doors:
  web:
    service: [tcp/80, tcp/81, udp/80]
    knock: {sequence: [1, 2], close: [3, 2, 1]}
    open_for: 1h
    admit: any
    on_close: %[2]s
  other: {service: tcp/82, knock: {sequence: [4, 5], close: [9, 8, 9]}, open_for: 1h, admit: any, on_close: %[2]s}
  behind4: {service: tcp/84, knock: {sequence: [6, 5], close: [6, 4]}, forward: "10.0.0.2:80", open_for: 1h, on_close: %[2]s}
  behind6: {service: tcp/86, knock: {sequence: [7, 5], close: [7, 4]}, forward: "[2001:db8:1::2]:80", open_for: 1h, on_close: %[2]s}
`, cover, onClose)
	blockedTCP, blockedUDP := labtest.Silence, labtest.Silence
	if cover == policy.CoverReset {
		blockedTCP, blockedUDP = labtest.RST, labtest.Unreachable
	}
	ended := make(chan error, 100) // what servers that talk are told
	for _, host := range []*lab.Host{s.Gateway, s.Inner} {
		labtest.Serve(t, host, "tcp", ":80", func(conn net.Conn) { ended <- chatter(conn) })
	}
	labtest.Greet(t, s.Gateway, 81, "quiet")
	labtest.Greet(t, s.Gateway, 82, "other")
	labtest.EchoUDP(t, s.Gate, 80)
	labtest.Each(t, func(t *testing.T, f labtest.Family) { // in fewer packets than the budget of attempts has
		s.Up(doors)
		src, gate := labtest.On(s.Outside, f), labtest.On(s.Gate, f)
		begin, behind := uint16(6), uint16(84)
		if f == labtest.IPv6 {
			begin, behind = 7, 86
		}
		knock := func(ports ...uint16) {
			t.Helper()
			var all []policy.Port
			for _, n := range ports {
				all = append(all, labtest.TCP(n))
			}
			s.Knock(src, all...)
		}
		dial := func(port uint16, greeting string) *labtest.Session {
			t.Helper()
			return s.Dial(t, s.Client, netip.AddrPortFrom(gate, port), greeting)
		}
		goesOn := func(when string, all ...*labtest.Session) {
			t.Helper()
			for _, c := range all {
				if err := c.Talk(); err != nil {
					t.Errorf("%s: %v", when, err)
				}
			}
		}
		ends := func(when string) {
			t.Helper()
			select {
			case err := <-ended:
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: the server's end ended with %v", when, err)
				}
			case <-labtest.Soon(t).Done():
				t.Errorf("%s: the server's end goes on", when)
			}
		}

		knock(1, 2)
		knock(4, 5)
		knock(begin, 5)
		talks, quiet, other, inner := dial(80, "hello"), dial(81, "quiet"), dial(82, "other"), dial(behind, "hello")
		flow := s.Opening(src, gate, labtest.UDP(80))
		if got := s.Ask(flow); got != labtest.Received {
			t.Fatalf("a datagram: %s", got)
		}
		knock(3, 2, 1)
		knock(begin, 4)
		s.Expect(t, src, labtest.TCP(80), blockedTCP, "closed")
		s.Expect(t, src, labtest.TCP(behind), blockedTCP, "closed")
		s.Expect(t, src, labtest.UDP(80), blockedUDP, "closed")
		s.Expect(t, src, labtest.TCP(82), labtest.SYNACK, "another door")
		goesOn("another door", other)
		if onClose == policy.OnCloseKeep {
			goesOn("kept", talks, quiet, inner)
			if got := s.Ask(flow); got != labtest.Received {
				t.Errorf("a datagram of a kept flow: %s", got)
			}
			return
		}
		ends("closed")
		ends("closed, behind the gateway")
		if got := s.Ask(flow); got != blockedUDP {
			t.Errorf("a datagram of a flow that has ended: %s", got)
		}

		knock(1, 2)
		again := dial(80, "hello")
		goesOn("opened again", again)
		if got := s.Ask(flow); got != labtest.Received {
			t.Errorf("a datagram, after the door was opened again: %s", got)
		}
		s.Up(labtest.Closed + fmt.Sprintf(`
cover: %s
doors: {web: {service: [tcp/80, tcp/81, udp/80], knock: {sequence: [1, 2], close: [3, 2, 1]}, admit: any, on_close: cut}}
`, cover))
		goesOn("after other rules", again)
		if cover == policy.CoverReset {
			if err := quiet.Talk(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a connection from before was not refused: %v", err)
			}
		}
		knock(3, 2, 1)
		ends("closed again")
	})
}

// chatter greets, echoes, and sends more all the time. It returns what ends the connection,
// which the kernel tells once: to who reads, or to who writes.
func chatter(conn net.Conn) error {
	fmt.Fprintln(conn, "hello")
	writing := make(chan error, 1)
	go func() {
		for {
			if _, err := conn.Write([]byte(".")); err != nil {
				writing <- err
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	_, err := io.Copy(conn, conn)
	if err == nil {
		err = <-writing
	}
	return err
}
