package client

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"postern/internal/client/knocker"
)

// A Seen is what the tries at one address, or at all of them, have seen.
type Seen struct {
	Tries   int
	Unsent  int // not even the knocks could be sent
	Refused int // the service's port refused the connection
	Silent  int // no answer

	address netip.Addr
	err     error // the last one of another kind, or of a knock that could not be sent
}

// seenAt sorts tries by the address that they went to, in the order in which these
// were first tried.
func seenAt(tries []knocker.Try) []Seen {
	var all []Seen
	for _, t := range tries {
		address := t.Way.Service.Addr()
		i := slices.IndexFunc(all, func(s Seen) bool { return s.address == address })
		if i < 0 {
			i, all = len(all), append(all, Seen{address: address})
		}
		s := &all[i]
		s.Tries++
		switch {
		case t.Unsent():
			s.Unsent++
			s.err = t.Err
		case t.Refused:
			s.Refused++
		case isTimeout(t.Err):
			s.Silent++
		default:
			s.err = t.Err
		}
	}
	return all
}

// total adds up what was seen at all addresses.
func total(all []Seen) Seen {
	var sum Seen
	for _, s := range all {
		sum.Tries += s.Tries
		sum.Unsent += s.Unsent
		sum.Refused += s.Refused
		sum.Silent += s.Silent
	}
	return sum
}

// isTimeout reports whether an error is that no answer came in time.
func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// String is what was seen at an address, in words.
func (s *Seen) String() string {
	switch {
	case s.Unsent == s.Tries:
		return "cannot be reached from here: " + cause(s.err)
	case s.Refused > 0 && s.Silent > 0:
		return "refused, or no answer"
	case s.Refused > 0:
		return "refused"
	case s.Silent > 0:
		return "no answer"
	}
	return "cannot be reached: " + cause(s.err)
}
