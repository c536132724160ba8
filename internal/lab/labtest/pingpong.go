//go:build linux

package labtest

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
)

// PingPong sends from a client to a server, on port 7 of TCP or UDP, and ends the
// test unless the client receives the same back.
func PingPong(t testing.TB, client, server *lab.Host, network string, addr netip.Addr) {
	t.Helper()
	to := netip.AddrPortFrom(addr, 7)
	if network == "tcp" {
		stop := Serve(t, server, network, to.String(), func(conn net.Conn) { io.Copy(conn, conn) })
		defer stop.Close()
	} else {
		stop := ServeUDP(t, server, to.String(), func(datagram []byte) []byte { return datagram })
		defer stop.Close()
	}
	conn, err := client.Dial(Soon(t), network, to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(long))
	if _, err := io.WriteString(conn, "ping"); err != nil {
		t.Fatal(err)
	}
	var b [4]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil || string(b[:]) != "ping" {
		t.Fatalf("sent %q over %s, got %q back: %v", "ping", network, b, err)
	}
}
