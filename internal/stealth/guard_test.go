//go:build linux

package stealth

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/internal/firewall/backends"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// TestStealthGuard: in guard Postern answers for ports with nothing behind them. It
// must not do so for a connection that a port still waits for: one that begins
// again where the last one has just been closed, which conntrack takes for new.
func TestStealthGuard(t *testing.T) {
	for _, b := range backends.All() {
		t.Run(b.Name(), func(t *testing.T) { beginsAgain(t, newNetwork(t, cover{policy.Guard, policy.CoverReset, b}, usual)) })
	}
}

func beginsAgain(t *testing.T, n *network) {
	t.Helper()
	labtest.Serve(t, n.gw, "tcp", ":9000", func(conn net.Conn) {
		io.WriteString(conn, banner) // and ends first, so that the server's end lingers
	})
	n.serve(t, n.gw, "udp", ":9000")
	for _, w := range ways(n.fromScanner) {
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			var conn net.Conn
			err := n.scanner.Do(func() (err error) {
				dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(w.src, 41000))}
				conn, err = dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(w.dst, 9000).String())
				return err
			})
			cancel()
			if err != nil {
				t.Fatalf("%s: %v", w.family(), err)
			}
			if got, err := io.ReadAll(conn); string(got) != banner {
				t.Errorf("%s: the service said %q, %v", w.family(), got, err)
			}
			conn.Close()
			if err := n.Settle(); err != nil {
				t.Fatal(err)
			}
		}
		conn, err := n.scanner.Dial(t.Context(), "udp", netip.AddrPortFrom(w.dst, 9000))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		greets(t, conn)
	}
}
