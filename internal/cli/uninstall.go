package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/systemd"
)

func (s *session) uninstallCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: shortUninstall,
		Long:  longUninstall,
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if err := s.systemdHere(dry); err != nil {
				return err
			}
			plan, err := systemd.Host{}.Uninstall()
			if err != nil {
				return unitsFailure(err)
			}
			if err := s.carryOut(plan, dry); err != nil {
				return err
			}
			if len(plan) == 0 && !s.JSON {
				s.Say(sayNothingInstalled)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, flagDryRun)
	ui.WithoutPolicy(cmd)
	return cmd
}
