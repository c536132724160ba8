//go:build linux

package labtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"postern/internal/lab"
)

// long is more than anything that a test waits for takes.
const long = 20 * time.Second

// Within returns a context that ends after d: for what must not happen.
func Within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Soon returns a context that ends long after anything that a test waits for.
func Soon(t testing.TB) context.Context { return Within(t, long) }

// A Session is a connection to a service that echoes lines.
type Session struct {
	net.Conn
	Lines *bufio.Reader
}

// NewSession wraps a connection.
func NewSession(conn net.Conn) *Session { return &Session{conn, bufio.NewReader(conn)} }

// Dial connects, and ends the test unless the service greets with that line. An
// empty greeting is none.
func Dial(t testing.TB, from *lab.Host, to netip.AddrPort, greeting string) *Session {
	t.Helper()
	conn, err := from.Dial(Soon(t), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := NewSession(conn)
	if greeting == "" {
		return c
	}
	conn.SetReadDeadline(time.Now().Add(long))
	if got, err := c.Lines.ReadString('\n'); err != nil || got != greeting+"\n" {
		t.Fatalf("%s greets with %q (%v), want %q", to, got, err, greeting)
	}
	return c
}

// Talk sends a line and reads it back.
func (c *Session) Talk() error {
	c.SetDeadline(time.Now().Add(long))
	if _, err := fmt.Fprintln(c, "still there?"); err != nil {
		return err
	}
	_, err := c.Lines.ReadString('\n')
	return err
}
