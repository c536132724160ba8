package main

import (
	"io"
	"os"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// defaultFile is where a host's policy is.
const defaultFile = "/etc/postern/policy.yaml"

// machine reads and compiles the policy.
func (s *session) machine() (*automaton.Machine, error) {
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
	p, err := policy.Parse(name, text)
	if err != nil {
		return nil, err
	}
	return s.backend.Machine(p)
}
