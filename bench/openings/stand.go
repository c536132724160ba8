//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"postern/internal/lab"
)

// A stand is a client and a server of their own, and the network in between.
type stand struct {
	lab     *lab.Lab
	kit     *kit
	client  *lab.Host
	link    *lab.Link  // the client's
	relay   *lab.Relay // nil on a cable
	cache   string     // the folder of a client that remembers
	opening int        // how many there were
}

var serverAddress = netip.MustParseAddr("10.0.0.1")

// newStand builds a stand in a lab; lay lays what is in between. The name is of the
// stand alone, and short.
func newStand(ctx context.Context, l *lab.Lab, k *kit, name string, s *subject, lay layer) (*stand, error) {
	server, client := l.Host(name+"-s"), l.Host(name+"-c")
	const prefix = "10.0.0.0/8" // the first address is the server's
	st := &stand{lab: l, kit: k, client: client, cache: filepath.Join(k.folder, "cache-"+name)}
	st.link, st.relay = lay(server, client, prefix)
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := s.rules.loadOn(ctx, k, server); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	for _, port := range []string{":22", ":9"} {
		ln, err := server.Listen(ctx, "tcp", port)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { ln.Close() })
		go greetAll(ctx, ln)
	}
	return st, nil
}

// greeting is what the service says first, as ssh's does.
const greeting = "hello\n"

func greetAll(ctx context.Context, ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go greet(ctx, conn.(*net.TCPConn))
	}
}

// greet says hello, and waits for the client to go.
func greet(ctx context.Context, conn *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	// Nothing of it stays: the client's address has moved on.
	conn.SetLinger(0)
	conn.SetDeadline(time.Now().Add(2 * limit))
	if _, err := io.WriteString(conn, greeting); err == nil {
		io.Copy(io.Discard, conn)
	}
}

// renew makes the client one that the server has never seen, at an address of its
// own. So no opening owes anything to the one before: grants, progress and lists are
// kept by address.
func (st *stand) renew(c *client) error {
	st.opening++
	st.link.Renumber(fmt.Sprintf("10.%d.%d.1/8", 1+st.opening/250, 1+st.opening%250))
	if err := st.lab.Err(); err != nil {
		return err
	}
	if c.memory == forgets {
		if err := os.RemoveAll(st.cache); err != nil {
			return err
		}
	}
	return os.MkdirAll(st.cache, 0o700)
}

// roundTrip is how long a plain connection takes, with no rules to get through.
func (st *stand) roundTrip(ctx context.Context) (time.Duration, error) {
	var took time.Duration
	err := st.client.Do(func() error {
		begun := time.Now()
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(serverAddress, 9).String())
		took = time.Since(begun)
		if err == nil {
			conn.Close()
		}
		return err
	})
	return took, err
}

// check fails if the network has done what it was not asked to.
func (st *stand) check() error {
	if st.relay == nil {
		return nil
	}
	there, back := st.relay.Counts()
	if n := there.Dropped + back.Dropped; n > 0 {
		return fmt.Errorf("the network had no room for %d packets: the machine is too busy for this measurement", n)
	}
	return nil
}
