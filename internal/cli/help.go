package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

func (s *session) helpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [VERB]",
		Short: shortHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &ui.UsageError{Err: unknownVerb(args[len(args)-1], nil), Cmd: cmd.Root()}
			}
			ui.Help(found, s.Out)
			return nil
		},
	}
	ui.WithoutAny(cmd)
	return cmd
}
