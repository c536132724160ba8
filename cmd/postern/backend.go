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
		if all, err := s.inspect(); err == nil && all[0].status.Loaded {
			return all[0].Backend, nil
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

// inspect reads what the kernel runs: what every backend has loaded, the default
// one's first. Where nothing is loaded, it is one backend that says so. A backend that
// does not work here has loaded nothing, unless none works.
func (s *session) inspect() ([]running, error) {
	var all []running
	var failed, unread error
	for i, b := range s.backends {
		status, err := b.Inspect()
		var unsupported *firewall.UnsupportedError
		switch {
		case errors.As(err, &unsupported):
			failed = errors.Join(failed, err)
		case err != nil && i > 0: // no reason not to tell of another that is loaded
			unread = err
		case err != nil:
			return nil, err
		default:
			all = append(all, running{b, status})
		}
	}
	loaded := slices.DeleteFunc(slices.Clone(all), func(r running) bool { return !r.status.Loaded })
	switch {
	case len(loaded) > 0 && unread != nil:
		s.warn(notInspected(unread))
		return loaded, nil
	case len(loaded) > 0:
		return loaded, nil
	case unread != nil:
		return nil, unread
	case len(all) == 0:
		return nil, failed
	}
	return all[:1], nil
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
