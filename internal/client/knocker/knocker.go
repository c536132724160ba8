// Package knocker sends the knocks that open a door, or the token.
//
// A token is one packet that a device with a key makes, for one door. The server
// accepts it once, so it matters neither how often it arrives nor what else does.
//
// A knock is exactly one packet: a system that retransmits it would knock twice,
// and the second knock may arrive in the middle of the sequence. So a TCP knock is
// a connection attempt that is given up as soon as its SYN is sent, a UDP knock is
// one datagram, and it never waits for an answer. None of it needs privilege.
package knocker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// A Family restricts the addresses of a host that may be used.
type Family string

const (
	AnyFamily Family = "ip"
	IPv4      Family = "ip4"
	IPv6      Family = "ip6"
)

// A FamilyError reports that a host has no address of a family.
type FamilyError struct {
	Host   string
	Family Family
}

func (e *FamilyError) Error() string {
	name := map[Family]string{IPv4: "IPv4 ", IPv6: "IPv6 "}[e.Family]
	return fmt.Sprintf("%q has no %saddress", e.Host, name)
}

// A LookupError reports that a host's addresses could not be looked up.
type LookupError struct {
	Host string
	Err  error
}

func (e *LookupError) Error() string {
	if e.Unknown() {
		return fmt.Sprintf("no host is called %q", e.Host)
	}
	return fmt.Sprintf("looking up %q: %v", e.Host, e.Err)
}

func (e *LookupError) Unwrap() error { return e.Err }

// Unknown reports whether the answer was that there is no such host. Otherwise
// there was no answer.
func (e *LookupError) Unknown() bool {
	dns, ok := errors.AsType[*net.DNSError](e.Err)
	return ok && dns.IsNotFound
}

// A PingError reports that this user may not send echo requests.
type PingError struct{ Err error }

func (e *PingError) Error() string { return "this user may not send pings" }
func (e *PingError) Unwrap() error { return e.Err }

// ResolveAll returns all addresses of a host, the best first. All knocks and the
// connection after them must go to one of them: a grant is for one source address,
// and that depends on the destination.
func ResolveAll(ctx context.Context, host string, family Family) ([]netip.Addr, error) {
	var found []netip.Addr
	literal, err := netip.ParseAddr(host)
	if err == nil {
		found = []netip.Addr{literal}
	} else if found, err = net.DefaultResolver.LookupNetIP(ctx, string(AnyFamily), host); err != nil {
		return nil, &LookupError{host, err}
	}
	var all []netip.Addr
	for _, a := range found {
		a = a.Unmap()
		if family == AnyFamily || a.Is4() == (family == IPv4) {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil, &FamilyError{host, family}
	}
	return all, nil
}

// turnTimeout is how long Knock waits for other openings. They take turns by the
// round, and rounds are shorter.
const turnTimeout = 15 * time.Second

// Knock sends the knocks in order, with a delay between one and the next, or more
// where the server would not count them, and calls sent after each. It ends early
// only if one cannot be sent, or the context ends.
func Knock(ctx context.Context, to netip.Addr, ports []policy.Port, delay time.Duration, sent func(policy.Port)) error {
	waiting, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	turn, err := takeTurn(waiting, to, budget{})
	if err != nil {
		return err
	}
	defer turn.end()
	return turn.knock(ctx, to, ports, delay, sent)
}

// knock sends knocks within the budget. What it does not hold back are as many
// packets as the budget is at most, so that their gaps are those that were asked for.
func (t *turn) knock(ctx context.Context, to netip.Addr, ports []policy.Port, gap time.Duration, sent func(policy.Port)) error {
	first := min(len(ports), automaton.Attempts.Burst)
	for i, port := range ports {
		pause := gap
		switch {
		case i == 0:
			pause = t.budget.wait(time.Now(), first)
		case i >= first:
			pause = max(gap, t.budget.wait(time.Now(), 1))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		if err := send(to, port); err != nil {
			return fmt.Errorf("knocking at %s: %w", to, err)
		}
		t.budget.spend(time.Now(), 1)
		sent(port)
	}
	return nil
}

func send(to netip.Addr, port policy.Port) error {
	switch port.Protocol {
	case policy.TCP:
		return sendSYN(to, port.Number)
	case policy.UDP:
		return sendDatagram(to, port.Number)
	case policy.ICMP:
		return sendEcho(to, nil)
	}
	return fmt.Errorf("%s cannot be a knock", port)
}

// zone returns the number of the interface that a link-local address names; 0 for
// other addresses.
func zone(a netip.Addr) (uint32, error) {
	name := a.Zone()
	if name == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		// Windows knows only the number; elsewhere it works as well.
		if number, err := strconv.ParseUint(name, 10, 32); err == nil {
			return uint32(number), nil
		}
		return 0, fmt.Errorf("interface %q does not exist", name)
	}
	return uint32(i.Index), nil
}
