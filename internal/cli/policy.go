package cli

import (
	"io"
	"os"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// defaultFile is where a host's policy is.
const defaultFile = "/etc/postern/policy.yaml"

// machine reads and compiles the policy, for a backend.
func (s *session) machine(b backend) (*automaton.Machine, error) {
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
