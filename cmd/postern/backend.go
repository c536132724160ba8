package main

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
)

// backendFlag lets a verb choose the backend.
func (s *session) backendFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("backend", "", flagBackend)
}

// chosen gives the backend of a name; of none, the one that has rules loaded, or else
// the first.
func (s *session) chosen(name string, cmd *cobra.Command) (firewall.Backend, error) {
	if name == "" {
		all, _, _ := s.look()
		for _, r := range all {
			if r.status.Loaded {
				return r.Backend, nil
			}
		}
		return s.backends[0], nil // whose own error is the one to see
	}
	var names []string
	for _, b := range s.backends {
		if b.Name() == name {
			return b, nil
		}
		names = append(names, b.Name())
	}
	return nil, &usageError{err: unknownBackend(name, names), cmd: cmd}
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
		s.warn(notInspected(unread))
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
	s.warn(notInspected(unread))
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
