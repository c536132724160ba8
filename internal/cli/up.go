package cli

import "github.com/spf13/cobra"

func (s *session) upCommand() *cobra.Command {
	var yes bool
	var backend *string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   shortUp,
		Long:    longUp,
		Example: exampleUp,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			risk := refuseRisk
			if yes {
				risk = takeRisk
			}
			return s.up(b, risk)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, flagYes)
	backend = s.backendFlag(cmd)
	return cmd
}

// What up does if the policy would shut the caller out, or hide nothing where it
// is to hold.
type risk int

const (
	refuseRisk risk = iota
	takeRisk
)
