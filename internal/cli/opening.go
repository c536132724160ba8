package cli

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/client/knocker"
	"postern/internal/hosts"
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
	Host    string `json:"host"`
	Address string `json:"address"`
	Service string `json:"service"`
	effort

	Warnings []ui.Remark `json:"warnings,omitempty"`

	conn *net.TCPConn
}

// An effort is what an opening took, whatever came of it.
type effort struct {
	Tries        int   `json:"tries"`
	Milliseconds int64 `json:"milliseconds"`

	took time.Duration
}

// open opens a host's door. Names are looked up each time: the machine may be on another
// network than before. If the first round is in vain, and others follow, slow is told what was
// seen in it.
func open(ctx context.Context, h *hosts.Host, to destination, slow func(sight)) (*opened, error) {
	begun := time.Now()
	opening, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	ways, err := waysTo(opening, h, to)
	var conn net.Conn
	var tries []knocker.Try
	if err == nil {
		conn, err = knocker.Open(opening, knocker.Door{
			Ways: ways, Knocks: h.Knock, StepTimeout: h.StepTimeout, Gap: h.Gap,
		}, func(t knocker.Try) {
			tries = append(tries, t)
			if t.Err == nil || len(tries) != len(ways) {
				return
			}
			if seen := total(sights(tries)); seen.unsent < seen.tries {
				slow(seen)
			}
		})
	}
	e := effort{Tries: len(tries), took: time.Since(begun)}
	e.Milliseconds = e.took.Milliseconds()
	var ping *knocker.PingError
	var shut *knocker.OpenError
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ui.Interrupted()
	case errors.As(err, &ping):
		return nil, ping
	case errors.As(err, &shut):
		return nil, staysShut(h, to, ways, shut, e)
	case len(ways) > 0 && errors.Is(err, context.DeadlineExceeded):
		return nil, noTurn(h.Address)
	default:
		return nil, err
	}
	return &opened{
		Host: h.Name, Address: conn.RemoteAddr().String(), Service: to.port.String(), effort: e, conn: conn.(*net.TCPConn),
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
	if a, err := netip.ParseAddr(host); err == nil {
		if f := checkZone(a); f != nil {
			return nil, f
		}
	}
	addresses, err := knocker.ResolveAll(ctx, host, family)
	if lookup, ok := errors.AsType[*knocker.LookupError](err); ok {
		return nil, unknownAddress(lookup)
	}
	return addresses, err
}

// checkZone looks whether an address can be meant from here at all: a link-local
// one is another machine's on each network.
func checkZone(a netip.Addr) error {
	zone := a.Zone()
	if zone == "" {
		if a.Is6() && a.IsLinkLocalUnicast() {
			return noZone(a)
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
	return noInterface(a, names)
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

// total is what became of all tries at all addresses.
func total(all []sight) sight {
	var sum sight
	for _, s := range all {
		sum.tries += s.tries
		sum.unsent += s.unsent
		sum.refused += s.refused
		sum.silent += s.silent
	}
	return sum
}

// isTimeout tells whether an error is that nothing was heard in time.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded)
}
