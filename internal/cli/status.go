package cli

import "github.com/spf13/cobra"

func (s *session) statusCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: shortStatus,
		Long:  longStatus,
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			most := mostRows
			if all {
				most = 0
			}
			return s.status(most)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, flagAll)
	return cmd
}

// mostRows is how many sources a screen shows: under a flood there may be a
// million that are part-way.
const mostRows = 20
