package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// An UnclosableError reports that nobody has told how to close a host's door.
type UnclosableError struct{ Host *hosts.Host }

func (e *UnclosableError) Error() string {
	return fmt.Sprintf("it is not known how to close the door of %q: it shuts by itself", e.Host.Name)
}

// Hints returns how that becomes known.
func (e *UnclosableError) Hints() []string {
	return []string{fmt.Sprintf("where the server's policy has a \"close\", a new link tells it, or \"postern add %s --force --close PORTS\"", e.Host.Name)}
}

// An OpenError reports that a door still lets connections in after it was closed.
type OpenError struct {
	Host  *hosts.Host
	To    netip.Addr
	Tries int
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("%s of %s still lets connections in from here, after %d tries to close it", e.Host.Service, e.To, e.Tries)
}

// Hints returns the likely causes.
func (e *OpenError) Hints() []string {
	if e.Host.Key != nil {
		return []string{
			"something else may let this machine in: an allow entry of the server, another door or another firewall",
			"a server that verifies tokens without BPF closes no door by them: the grant ends by itself",
		}
	}
	return []string{"the knocks that close it may be out of date, or something else lets this machine in: an allow entry, or another door"}
}

// closeTries is how often it is tried to close a door that still lets connections in, as what
// closes it may be lost on the way: so often that each kind of packet with a token is sent.
const closeTries = 3

// Close sends what closes the door of a host: knocks, with a delay between them, or a token.
// Nobody answers. So it looks whether a connection still comes about, and if so it tries
// again. It reports whether it could look; a UDP service answers nobody, and there a token
// goes in each kind of packet.
func Close(ctx context.Context, to netip.Addr, h *hosts.Host, delay time.Duration) (looked bool, err error) {
	if !h.Closable() {
		return false, &UnclosableError{h}
	}
	key, err := keyOf(ctx, h)
	if err != nil {
		return false, err
	}
	for try := range closeTries {
		if key != nil {
			key.Closes = true
			_, err = knocker.SendToken(to, key, try)
			err = knockError(to, err)
		} else {
			err = Knock(ctx, to, h.Close, delay, func(policy.Port) {})
		}
		switch {
		case err != nil:
			return false, err
		case h.Service.Protocol == policy.TCP:
			open, err := answers(ctx, netip.AddrPortFrom(to, h.Service.Number))
			if err != nil || !open {
				return err == nil, err
			}
		case key == nil:
			return false, nil
		}
	}
	if h.Service.Protocol != policy.TCP {
		return false, nil
	}
	return true, &OpenError{h, to, closeTries}
}

// answers reports whether a connection comes about, before a SYN would be sent again.
func answers(ctx context.Context, at netip.AddrPort) (bool, error) {
	const patience = 900 * time.Millisecond
	looking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(looking, "tcp", at.String())
	if err != nil {
		return false, ctx.Err()
	}
	return true, conn.Close()
}
