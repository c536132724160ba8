package main

import "github.com/spf13/cobra"

func (s *session) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: shortDown,
		Long:  longDown,
		Args:  exactly(0),
		RunE:  func(*cobra.Command, []string) error { return s.down() },
	}
}

// removed is the answer of down to programs.
type removed struct {
	Removed bool     `json:"removed"` // false: there was nothing
	Open    []string `json:"open,omitempty"`
}

func (s *session) down() error {
	before, err := s.backend.Inspect()
	if err != nil {
		return err
	}
	answer := removed{Removed: before.Loaded}
	if before.Loaded {
		if err := s.backend.Remove(); err != nil {
			return err
		}
		// What is open now can be named if FILE is what was loaded; whether
		// it can still be read must not keep anybody from taking it down.
		if m, err := s.machine(); err == nil && s.backend.Digest(m) == before.Digest {
			for i := range m.Services {
				answer.Open = append(answer.Open, m.Services[i].String())
			}
		}
	}
	if s.json {
		return s.answer(answer)
	}
	s.sayRemoved(answer)
	return nil
}
