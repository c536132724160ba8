package backends

import (
	"errors"
	"slices"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// A Survey is what every backend says that the kernel runs for it, the default
// one's answer first. A verb takes one survey, as reading takes a while: some
// backends run other programs for it.
type Survey []Answer

// An Answer is what one backend says.
type Answer struct {
	firewall.Backend
	Status *firewall.Status // nil if there is an error
	Err    error
}

// Look asks every backend.
func Look(all []firewall.Backend) Survey {
	s := make(Survey, len(all))
	for i, b := range all {
		s[i].Backend = b
		s[i].Status, s[i].Err = b.Inspect()
	}
	return s
}

// Of returns the backend's answer.
func (s Survey) Of(b firewall.Backend) (*firewall.Status, error) {
	i := slices.IndexFunc(s, func(a Answer) bool { return a.Name() == b.Name() })
	return s[i].Status, s[i].Err
}

// Same reports whether every backend says the same in another survey: that it has the
// same rules loaded, or none, or that it cannot be used here.
func (s Survey) Same(other Survey) bool {
	return slices.EqualFunc(s, other, func(a, b Answer) bool {
		if a.Status == nil || b.Status == nil {
			var x, y *firewall.UnsupportedError
			return a.Status == b.Status && errors.As(a.Err, &x) && errors.As(b.Err, &y)
		}
		return a.Status.Loaded == b.Status.Loaded && a.Status.Altered == b.Status.Altered && a.Status.Digest == b.Status.Digest
	})
}

// readable returns the answers of the backends that work here. One that is not
// supported has nothing loaded. What another than the default one cannot tell may
// be rules, and is unread; the default one's error is an error.
func (s Survey) readable() (answers []Answer, unread, err error) {
	var none error
	for i, a := range s {
		var unsupported *firewall.UnsupportedError
		switch {
		case a.Err == nil:
			answers = append(answers, a)
		case errors.As(a.Err, &unsupported):
			none = errors.Join(none, a.Err)
		case i == 0:
			return nil, nil, a.Err
		default:
			unread = a.Err
		}
	}
	if len(answers) == 0 && unread == nil {
		return nil, nil, none
	}
	return answers, unread, nil
}

// InUse returns the backend that has rules loaded, or else the default one.
func (s Survey) InUse() firewall.Backend {
	answers, _, _ := s.readable()
	for _, a := range answers {
		if a.Status.Loaded {
			return a.Backend
		}
	}
	return s[0].Backend // whose error, if it has one, is the one to show
}

// For returns the backend for a policy: the one that it names, or else the one in use.
func (s Survey) For(p *policy.Policy) firewall.Backend {
	for _, a := range s {
		if a.Name() == string(p.Backend) {
			return a.Backend
		}
	}
	return s.InUse()
}

// Loaded returns the answers of backends that have rules loaded. Where none has,
// it is one answer that says so. If a backend that cannot be read may have others
// the error that it met is unread; where nothing else is loaded, that is an error.
func (s Survey) Loaded() (loaded []Answer, unread, err error) {
	answers, unread, err := s.readable()
	if err != nil {
		return nil, nil, err
	}
	for _, a := range answers {
		if a.Status.Loaded {
			loaded = append(loaded, a)
		}
	}
	switch {
	case len(loaded) > 0:
		return loaded, unread, nil
	case unread != nil:
		return nil, nil, unread
	}
	return answers[:1], nil, nil
}

// A Takeover replaces whatever any backend has loaded by the rules of one.
type Takeover struct {
	Backend firewall.Backend
	Before  *firewall.Status // what it had loaded itself
	Unread  error            // another one may have rules, and cannot be read
	others  []Answer
}

// TakeOver prepares one. Two rule sets that judge each knock let nobody in: it
// fails if another backend has rules for certain that cannot be read, unless this
// one's are loaded already.
func (s Survey) TakeOver(b firewall.Backend) (*Takeover, error) {
	before, err := s.Of(b)
	if err != nil {
		return nil, err
	}
	answers, unread, err := s.readable()
	if err != nil {
		return nil, err
	}
	var unreadable *firewall.UnreadableError
	if errors.As(unread, &unreadable) && !before.Loaded {
		return nil, unread
	}
	t := &Takeover{Backend: b, Before: before, Unread: unread}
	for _, a := range answers {
		if a.Name() != b.Name() && a.Status.Loaded {
			t.others = append(t.others, a)
		}
	}
	return t, nil
}

// Apply has the backend run the machine, and then removes the other backends'
// rules: there is no moment without any. It returns the names of those backends.
// The error is a *LeftoverError if the machine runs and others' rules are still there.
func (t *Takeover) Apply(m *automaton.Machine) (removed []string, err error) {
	if err := t.Backend.Apply(m); err != nil {
		return nil, err
	}
	for _, a := range t.others {
		if err := a.Remove(); err != nil {
			return removed, &LeftoverError{a.Name(), err}
		}
		removed = append(removed, a.Name())
	}
	return removed, nil
}

// A LeftoverError says that rules are loaded, but that those of another backend
// could not be removed.
type LeftoverError struct {
	Backend string // the other one
	Err     error
}

func (e *LeftoverError) Error() string {
	return "the rules are loaded, but those of the " + e.Backend + " backend could not be removed: " + e.Err.Error()
}
func (e *LeftoverError) Unwrap() error { return e.Err }
