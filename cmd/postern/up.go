package main

import (
	"github.com/spf13/cobra"
)

func (s *session) upCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:     "up",
		Short:   shortUp,
		Long:    longUp,
		Example: exampleUp,
		Args:    exactly(0),
		RunE:    func(*cobra.Command, []string) error { return s.up() },
	}
	cmd.Flags().BoolVar(&yes, "yes", false, flagYes)
	return cmd
}

func (s *session) up() error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	return s.backend.Apply(m)
}
