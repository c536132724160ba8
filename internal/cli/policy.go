package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// defaultFile is where a host's policy is.
const defaultFile = "/etc/postern/policy.yaml"

// machine reads and compiles the policy, for a backend.
func (s *session) machine(b firewall.Backend) (*automaton.Machine, error) {
	p, err := s.policy()
	if err != nil {
		return nil, err
	}
	return b.Machine(p)
}

// policy reads the policy.
func (s *session) policy() (*policy.Policy, error) {
	name, from := s.file, s.stdin
	if name == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, unreadable(name, err)
		}
		defer f.Close()
		from = f
	}
	// One byte more than a policy may have, for Parse to see that it is too
	// long: FILE may be a device that never ends.
	text, err := io.ReadAll(io.LimitReader(from, policy.MaxSize+1))
	if err != nil {
		return nil, unreadable(name, err)
	}
	return policy.Parse(name, text)
}

// services names what a door opens.
func services(m *automaton.Machine, d *automaton.Door) []string {
	var names []string
	for _, i := range d.Services {
		names = append(names, m.Services[i].String())
	}
	return names
}

// unreadable explains why a policy file could not be read.
func unreadable(file string, err error) *ui.Failure {
	// The path is named once, by us.
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	f := &ui.Failure{Code: ui.CodeFailed, Message: sayUnreadable(file, err), Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Hints = []string{hintNoPolicy}
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Hints = ui.CodePrivilege, []string{hintReadPolicy}
	}
	return f
}
