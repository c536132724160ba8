package client

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// A KnockError reports that a knock could not be sent.
type KnockError struct {
	To  netip.Addr
	Err error
}

func (e *KnockError) Error() string   { return e.Err.Error() }
func (e *KnockError) Unwrap() error   { return e.Err }
func (e *KnockError) Hints() []string { return []string{UnsentHint(e.To, e.Err)} }

// Knock sends knocks to an address, and calls sent after each.
func Knock(ctx context.Context, to netip.Addr, ports []policy.Port, delay time.Duration, sent func(policy.Port)) error {
	return knockError(to, knocker.Knock(ctx, to, ports, delay, sent))
}

// SendToken sends a token for a host that has a key, and perhaps another one, as
// knocker.SendToken does. It returns in which kind of packet.
func SendToken(ctx context.Context, to netip.Addr, h *hosts.Host) (knocker.Envelope, error) {
	key, err := keyOf(ctx, h)
	if err != nil {
		return 0, err
	}
	e, err := knocker.SendToken(to, key, 0)
	return e, knockError(to, err)
}

func knockError(to netip.Addr, err error) error {
	_, ping := errors.AsType[*knocker.PingError](err)
	switch {
	case err == nil, ping, errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &TurnError{to.String(), false, err}
	}
	return &KnockError{to, err}
}
