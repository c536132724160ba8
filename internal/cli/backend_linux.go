//go:build !arm

package cli

import (
	"errors"
	"slices"

	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
)

// A backend runs policies on this host.
type backend = firewall.Backend

func backends() []backend { return []backend{nftables.Backend{}, iptables.Backend{}} }

// inUse gives the backend that has rules loaded, or else the first.
func (s *session) inUse() backend {
	all, _, _ := s.look()
	for _, r := range all {
		if r.status.Loaded {
			return r.Backend
		}
	}
	return s.backends[0] // whose own error is the one to see
}

// running is a backend and what the kernel runs for it.
type running struct {
	firewall.Backend
	status *firewall.Status
}

// look asks every backend what the kernel runs for it, the default one first. One
// that does not work here runs nothing, unless none works. What another one cannot
// tell may be something, and is unread.
func (s *session) look() (all []running, unread, err error) {
	var failed error
	for i, b := range s.backends {
		status, err := b.Inspect()
		var unsupported *firewall.UnsupportedError
		switch {
		case errors.As(err, &unsupported):
			failed = errors.Join(failed, err)
		case err != nil && i > 0:
			unread = err
		case err != nil:
			return nil, nil, err
		default:
			all = append(all, running{b, status})
		}
	}
	if len(all) == 0 && unread == nil {
		return nil, nil, failed
	}
	return all, unread, nil
}

// inspect gives what the kernel runs for backends that have anything loaded. Where
// none has, it is one backend that says so. It fails if there may be something else.
func (s *session) inspect() ([]running, error) {
	all, unread, err := s.look()
	if err != nil {
		return nil, err
	}
	loaded := slices.DeleteFunc(slices.Clone(all), func(r running) bool { return !r.status.Loaded })
	switch {
	case len(loaded) == 0 && unread != nil:
		return nil, unread
	case len(loaded) == 0:
		return all[:1], nil
	case unread != nil: // no reason not to tell of what is loaded
		s.Warn(notInspected(unread))
	}
	return loaded, nil
}

// beside looks at what is loaded, before a backend loads more. What cannot be read
// gets a warning. But two that judge each knock let nobody in: it is an error if the
// other one has rules for certain, and this one has none yet.
func (s *session) beside(before *firewall.Status) ([]running, error) {
	all, unread, err := s.look()
	if err != nil || unread == nil {
		return all, err
	}
	var unreadable *iptables.UnreadableError
	if errors.As(unread, &unreadable) && !before.Loaded {
		return nil, unread
	}
	s.Warn(notInspected(unread))
	return all, nil
}

// others gives what other backends than one have loaded.
func others(all []running, than firewall.Backend) []running {
	return slices.DeleteFunc(slices.Clone(all), func(r running) bool {
		return r.Name() == than.Name() || !r.status.Loaded
	})
}

// with names the program that loads a backend's rules; "" where it is this one.
func with(b firewall.Backend) string {
	tables, ok := b.(iptables.Backend)
	if !ok {
		return ""
	}
	v, err := tables.Version()
	if err != nil {
		return ""
	}
	return v.String()
}
