package cli

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
