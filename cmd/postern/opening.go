package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"postern/internal/hosts"
	"postern/internal/knocker"
	"postern/internal/policy"
)

// A destination is where to connect once a door has been knocked at. Usually it is
// the service of the hosts file.
type destination struct {
	host string // a name or an address; "" is where the knocks went
	port policy.Port
}

// opened is a connection through a door, and what it took. As JSON it is the answer
// to programs.
type opened struct {
	Host         string `json:"host"`
	Address      string `json:"address"`
	Service      string `json:"service"`
	Tries        int    `json:"tries"`
	Milliseconds int64  `json:"milliseconds"`

	Warnings []remark `json:"warnings,omitempty"`

	took time.Duration
	conn *net.TCPConn
}

// open opens a host's door. Names are looked up each time: the machine may be on another
// network than before.
func open(ctx context.Context, h *hosts.Host, to destination) (*opened, error) {
	begun := time.Now()
	opening, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	ways, err := waysTo(opening, h, to)
	var conn net.Conn
	tries := 0
	if err == nil {
		conn, err = knocker.Open(opening, knocker.Door{
			Ways: ways, Knocks: h.Knock, StepTimeout: h.StepTimeout, Gap: h.Gap,
		}, func(knocker.Try) { tries++ })
	}
	var ping *knocker.PingError
	var shut *knocker.OpenError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, interrupted()
	case errors.As(err, &ping):
		return nil, ping
	case errors.As(err, &shut):
		return nil, staysShut(h, to, ways, shut)
	case len(ways) > 0 && errors.Is(err, context.DeadlineExceeded):
		return nil, noTurn(h)
	default:
		return nil, err
	}
	took := time.Since(begun)
	return &opened{
		Host: h.Name, Address: conn.RemoteAddr().String(), Service: to.port.String(), Tries: tries,
		Milliseconds: took.Milliseconds(), took: took, conn: conn.(*net.TCPConn),
	}, nil
}

// waysTo gives the ways to a destination, by every address of the host's.
func waysTo(ctx context.Context, h *hosts.Host, to destination) ([]knocker.Way, error) {
	knocked, err := lookUp(ctx, h.Address, familyOf(h))
	if err != nil {
		return nil, err
	}
	var there []netip.Addr
	if to.host != "" {
		if there, err = lookUp(ctx, to.host, familyOf(h)); err != nil {
			return nil, err
		}
	}
	var ways []knocker.Way
	for _, a := range knocked {
		if to.host == "" {
			there = []netip.Addr{a}
		}
		for _, b := range there {
			// The grant is for the address that the knocks come from.
			if a.Is4() == b.Is4() {
				ways = append(ways, knocker.Way{Knock: a, Service: netip.AddrPortFrom(b, to.port.Number)})
			}
		}
	}
	if len(ways) == 0 {
		return nil, noCommonFamily(h, to.host)
	}
	return ways, nil
}

// lookUp gives all addresses of a host.
func lookUp(ctx context.Context, host string, family knocker.Family) ([]netip.Addr, error) {
	addresses, err := knocker.ResolveAll(ctx, host, family)
	if lookup, ok := errors.AsType[*knocker.LookupError](err); ok {
		return nil, unknownAddress(lookup)
	}
	return addresses, err
}

// A sight is what became of all tries at one address.
type sight struct {
	address netip.Addr
	tries   int
	unsent  int   // not even the knocks could be sent
	refused int   // the service's port said no
	silent  int   // nothing was heard
	err     error // the last one of another kind, or of a knock that could not be sent
}

// sights sorts tries by the address that they were made at, in the order in which these
// were first tried.
func sights(tries []knocker.Try) []sight {
	var all []sight
	for _, t := range tries {
		address := t.Way.Service.Addr()
		i := slices.IndexFunc(all, func(s sight) bool { return s.address == address })
		if i < 0 {
			i, all = len(all), append(all, sight{address: address})
		}
		s := &all[i]
		s.tries++
		switch {
		case t.Unsent():
			s.unsent++
			s.err = t.Err
		case t.Refused:
			s.refused++
		case isTimeout(t.Err):
			s.silent++
		default:
			s.err = t.Err
		}
	}
	return all
}

// isTimeout tells whether an error is that nothing was heard in time.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
