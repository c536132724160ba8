// Package client does what the client's verbs are for: it opens doors (open.go),
// passes bytes between a connection and a program (relay.go, pump_linux.go) or
// hands the connection over (pass_unix.go), listens for programs that cannot knock
// (forward.go), and runs ssh through a door (ssh.go).
//
// Its errors name what went wrong, and have a method Hints that returns what to do
// about it, one remedy an item. How they are shown, and the exit codes, are the
// caller's.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/keystore"
	"postern/internal/policy"
)

// A Destination is where to connect once a door has been knocked at. Usually it is
// the service of the hosts file.
type Destination struct {
	Host string // a name or an address; "" is the host that is knocked at
	Port policy.Port
}

// at names the host of a destination.
func (d Destination) at(h *hosts.Host) string {
	if d.Host != "" {
		return d.Host
	}
	return h.Address
}

// HostPort is the host and the port of a destination, as programs write them.
func (d Destination) HostPort(h *hosts.Host) string {
	return net.JoinHostPort(d.at(h), fmt.Sprint(d.Port.Number))
}

// String is the port of the destination and its host: "tcp/22 of home.example".
func (d Destination) String(h *hosts.Host) string {
	return fmt.Sprintf("%s of %s", d.Port, d.at(h))
}

// An Opened is a connection through a door. It is an answer to programs, too.
type Opened struct {
	Host    string `json:"host"`
	Address string `json:"address"`
	Service string `json:"service"`
	Effort

	Conn *net.TCPConn `json:"-"`
}

// An Effort is how often an opening was tried, and for how long.
type Effort struct {
	Tries        int   `json:"tries"`
	Milliseconds int64 `json:"milliseconds"`

	Took time.Duration `json:"-"`
}

// String is "at the 2nd try, after 812ms".
func (e Effort) String() string {
	after := "after " + brief(e.Took)
	if e.Tries > 1 {
		return fmt.Sprintf("at the %s try, %s", ordinal(e.Tries), after)
	}
	return after
}

// brief rounds a time to what a person wants to know.
func brief(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	}
	return d.Round(time.Millisecond).String()
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

// slowAfter is when an opening is slow enough for a person who waits for it to be
// told. One with less time than twice that is slow at half of it.
const slowAfter = time.Second

// Open opens a host's door. Names are looked up each time: this machine may be on
// another network than before. If the door is still shut after a second, slow is
// called, once, with what the tries have seen so far; it is not called after Open
// has returned.
//
// The error is a *ShutError if the door did not open.
func Open(ctx context.Context, h *hosts.Host, to Destination, slow func(Seen)) (*Opened, error) {
	begun := time.Now()
	key, err := keyOf(ctx, h)
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var running sync.Mutex // for what the timer reads
	var tries []knocker.Try
	timer := time.AfterFunc(min(slowAfter, h.Timeout/2), func() {
		running.Lock()
		defer running.Unlock()
		if opening.Err() == nil {
			slow(total(seenAt(tries)))
		}
	})
	defer timer.Stop()
	ways, err := waysTo(opening, h, to)
	var conn net.Conn
	if err == nil {
		conn, err = knocker.Open(opening, knocker.Door{
			Ways: ways, Key: key, Knocks: h.Knock, StepTimeout: h.StepTimeout, Gap: h.Gap,
		}, func(t knocker.Try) {
			running.Lock()
			defer running.Unlock()
			tries = append(tries, t)
		})
	}
	expired := opening.Err() != nil
	running.Lock()
	cancel()
	running.Unlock()
	effort := Effort{Tries: len(tries), Took: time.Since(begun)}
	effort.Milliseconds = effort.Took.Milliseconds()
	var ping *knocker.PingError
	var shut *knocker.OpenError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &ping):
		return nil, ping
	case errors.As(err, &shut):
		return nil, &ShutError{Host: h, To: to, Ways: ways, Tries: shut.Tries, Effort: effort, Err: shut}
	case len(ways) > 0 && expired:
		return nil, &TurnError{h.Address, true, err}
	default:
		return nil, err
	}
	return &Opened{
		Host: h.Name, Address: conn.RemoteAddr().String(), Service: to.Port.String(), Effort: effort, Conn: conn.(*net.TCPConn),
	}, nil
}

// waysTo returns the ways to a destination, by every address of the host.
func waysTo(ctx context.Context, h *hosts.Host, to Destination) ([]knocker.Way, error) {
	knocked, err := LookUp(ctx, h.Address, FamilyOf(h))
	if err != nil {
		return nil, err
	}
	var there []netip.Addr
	if to.Host != "" {
		if there, err = LookUp(ctx, to.Host, FamilyOf(h)); err != nil {
			return nil, err
		}
	}
	var ways []knocker.Way
	for _, a := range knocked {
		if to.Host == "" {
			there = []netip.Addr{a}
		}
		for _, b := range there {
			// The grant is for the address that the knocks come from.
			if a.Is4() == b.Is4() {
				ways = append(ways, knocker.Way{Knock: a, Service: netip.AddrPortFrom(b, to.Port.Number)})
			}
		}
	}
	if len(ways) == 0 {
		return nil, &NoCommonFamilyError{h.Address, to.Host}
	}
	return ways, nil
}

// keyOf returns the key that opens a host's door, or nil if knocks do. The error is a
// *keystore.Error, or the context's.
func keyOf(ctx context.Context, h *hosts.Host) (*knocker.Key, error) {
	if h.Key == nil {
		return nil, nil
	}
	k := &knocker.Key{Credential: *h.Key, Port: h.Token}
	if h.Stored {
		var err error
		if k.Credential, err = keystore.Get(ctx, h.Name, h.StoreEntry()); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// FamilyOf returns which of a host's addresses the hosts file says to use.
func FamilyOf(h *hosts.Host) knocker.Family {
	switch h.Family {
	case hosts.IPv4:
		return knocker.IPv4
	case hosts.IPv6:
		return knocker.IPv6
	}
	return knocker.AnyFamily
}

// LookUp returns all addresses of a host.
func LookUp(ctx context.Context, host string, family knocker.Family) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		if err := checkZone(a); err != nil {
			return nil, err
		}
	}
	addresses, err := knocker.ResolveAll(ctx, host, family)
	if lookup, ok := errors.AsType[*knocker.LookupError](err); ok {
		return nil, &LookupError{lookup}
	}
	return addresses, err
}

// checkZone returns an error if an address cannot be reached from here at all: a
// link-local one is another machine on each network.
func checkZone(a netip.Addr) error {
	zone := a.Zone()
	if zone == "" {
		if a.Is6() && a.IsLinkLocalUnicast() {
			return &ZoneError{Address: a}
		}
		return nil
	}
	if _, err := net.InterfaceByName(zone); err == nil {
		return nil
	}
	if _, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return nil // by its number, as Windows has them
	}
	var names []string
	all, _ := net.Interfaces()
	for _, i := range all {
		if i.Flags&net.FlagLoopback == 0 {
			names = append(names, i.Name)
		}
	}
	return &ZoneError{a, names}
}
