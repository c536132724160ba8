//go:build linux

package labtest

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"postern/internal/lab"
)

// A Server listens until it is closed, or the test ends.
type Server struct {
	io.Closer
	Accepted atomic.Int64 // connections so far
}

// Serve listens at a TCP address of a host until the test ends. It calls handle
// for each connection, in a goroutine of its own, and closes the connection
// afterwards.
func Serve(t testing.TB, h *lab.Host, network, address string, handle func(net.Conn)) *Server {
	t.Helper()
	ln, err := h.Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s := &Server{Closer: ln}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			s.Accepted.Add(1)
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return s
}

// Greet serves a port of both families: it sends a line of greeting to all who
// connects, and echoes every line.
func Greet(t testing.TB, h *lab.Host, port uint16, greeting string) *Server {
	t.Helper()
	return Serve(t, h, "tcp", fmt.Sprintf(":%d", port), Greeting(greeting))
}

// Greeting returns the service of Greet, for Serve.
func Greeting(line string) func(net.Conn) {
	return func(conn net.Conn) {
		fmt.Fprintln(conn, line)
		io.Copy(conn, conn)
	}
}

// ServeUDP answers every datagram at an address of a host until the test ends.
func ServeUDP(t testing.TB, h *lab.Host, address string, answer func(datagram []byte) []byte) io.Closer {
	t.Helper()
	conn, err := h.ListenPacket(t.Context(), "udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			conn.WriteTo(answer(b[:n]), from)
		}
	}()
	return conn
}

// EchoUDP echoes every datagram. It listens on both addresses of a link, so that
// an answer comes from the address that was asked.
func EchoUDP(t testing.TB, k *lab.Link, port uint16) {
	t.Helper()
	for _, f := range Families {
		ServeUDP(t, k.Host, netip.AddrPortFrom(On(k, f), port).String(), func(datagram []byte) []byte { return datagram })
	}
}
