//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"postern/internal/lab"
	"postern/internal/lab/impair"
)

// A stand is a client and a server of its own, and the network between them.
type stand struct {
	lab     *lab.Lab
	kit     *kit
	client  *lab.Host
	link    *lab.Link     // on the client's side
	relay   *impair.Relay // nil on a cable
	cache   string        // the cache folder of a client that keeps one
	limit   time.Duration // how long an opening may take, and its greeting after it
	opening int           // the number of openings so far
}

var serverAddress = netip.MustParseAddr("10.0.0.1")

// newStand builds a stand in a lab; lay builds the link. The name must be short
// and unique.
func newStand(ctx context.Context, l *lab.Lab, k *kit, name string, s *subject, lay layer) (*stand, error) {
	server, client := l.Host(name+"-s"), l.Host(name+"-c")
	const prefix = "10.0.0.0/8" // the first address is the server's
	st := &stand{lab: l, kit: k, client: client, limit: limit, cache: filepath.Join(k.folder, "cache-"+name)}
	st.link, st.relay = lay(server, client, prefix)
	if err := l.Err(); err != nil {
		return nil, err
	}
	if err := s.rules.loadOn(ctx, k, st.link.Peer); err != nil {
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

// greeting is sent by the service first, as by ssh's.
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

// greet sends the greeting and waits for the client to close.
func greet(ctx context.Context, conn *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	// No state of the connection stays: the client's address has changed.
	conn.SetLinger(0)
	conn.SetDeadline(time.Now().Add(2 * limit))
	if _, err := io.WriteString(conn, greeting); err == nil {
		io.Copy(io.Discard, conn)
	}
}

// renew moves the client to an address that the server has never seen. So no
// opening depends on the one before: grants, progress and lists are kept by
// address.
func (st *stand) renew(c *client) error {
	st.opening++
	st.link.Renumber(fmt.Sprintf("10.%d.%d.1/8", 1+st.opening/250, 1+st.opening%250))
	if err := st.lab.Err(); err != nil {
		return err
	}
	// The budget of the address before is none of the new one's.
	budget := filepath.Join(st.cache, "postern", serverAddress.String()+".budget")
	if err := os.Remove(budget); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if c.memory == forgets {
		if err := os.RemoveAll(st.cache); err != nil {
			return err
		}
	}
	return os.MkdirAll(st.cache, 0o700)
}

// roundTrip returns the time of a plain connection, without rules.
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

// check returns an error if the network did what it was not asked to.
func (st *stand) check() error {
	if st.relay == nil {
		return nil
	}
	there, back := st.relay.Counts()
	if n := there.Dropped + back.Dropped; n > 0 {
		return fmt.Errorf("the network dropped %d packets for lack of room: the machine is too busy for this measurement", n)
	}
	return nil
}
