package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
)

// inTunnel is the server's address in the tunnel.
const inTunnel = "10.8.0.1"

// ping has the client ping the server through the tunnel.
func (s *vpnScene) ping() {
	s.t.Helper()
	ping(s.t, s.client, inTunnel)
}

func ping(t *testing.T, from *lab.Host, to string) {
	t.Helper()
	out, err := from.Command(t.Context(), "ping", "-c", "3", "-i", "0.1", "-W", "5", to).CombinedOutput()
	if err != nil {
		t.Fatalf("ping through the tunnel: %v\n%s", err, out)
	}
}

// A vpnFlow is a TCP connection through the tunnel to a service that repeats what is
// said.
type vpnFlow struct {
	t *testing.T
	net.Conn
}

func (s *vpnScene) dial() vpnFlow {
	s.t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr(inTunnel), 7)
	ln, err := s.server.Listen(s.t.Context(), "tcp", at.String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ln.Close() })
	go func() {
		if conn, err := ln.Accept(); err == nil {
			defer conn.Close()
			io.Copy(conn, conn)
		}
	}()
	ctx, cancel := context.WithTimeout(s.t.Context(), vpnPatience)
	defer cancel()
	conn, err := s.client.Dial(ctx, "tcp", at)
	if err != nil {
		s.t.Fatalf("through the tunnel: %v", err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return vpnFlow{s.t, conn}
}

// echo says so many octets and hears them again.
func (f vpnFlow) echo(octets int) {
	f.t.Helper()
	said := make([]byte, octets)
	rand.Read(said)
	f.SetDeadline(time.Now().Add(vpnPatience))
	go f.Write(said)
	heard := make([]byte, octets)
	if n, err := io.ReadFull(f, heard); err != nil {
		f.t.Fatalf("through the tunnel: %v after %d octets", err, n)
	}
	if !bytes.Equal(said, heard) {
		f.t.Fatal("through the tunnel came something else than was sent")
	}
}
