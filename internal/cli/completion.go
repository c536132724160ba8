package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

// completionCommand prints a shell's completion script. It is not cobra's own
// command, which answers the name of a shell it does not know with its help, and
// exit code 0.
func (s *session) completionCommand() *cobra.Command {
	shells := []cobra.Completion{"bash", "zsh", "fish", "powershell"}
	cmd := &cobra.Command{
		Use:       "completion SHELL",
		Short:     shortCompletion,
		Long:      longCompletion,
		Example:   exampleCompletion,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch {
			case len(args) == 0:
				return &ui.UsageError{Err: fmt.Errorf(sayWhichShell, ui.List(shells)), Cmd: cmd}
			case len(args) > 1:
				return &ui.UsageError{Err: surplus(args[1]), Cmd: cmd}
			}
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(s.Out, true)
			case "zsh":
				return root.GenZshCompletion(s.Out)
			case "fish":
				return root.GenFishCompletion(s.Out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(s.Out)
			}
			return &ui.UsageError{Err: fmt.Errorf(sayUnknownShell, args[0], ui.List(shells)), Cmd: cmd}
		},
	}
	ui.WithoutAny(cmd)
	return cmd
}
