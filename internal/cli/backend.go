package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

// backendFlag lets a verb choose the backend.
func (s *session) backendFlag(cmd *cobra.Command) *string {
	names := backends.Names(s.backends)
	name := cmd.Flags().String("backend", "", flagBackend(names))
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return name
}

// named returns the backend of a name; nil for no name, which lets the host decide.
func (s *session) named(name string, cmd *cobra.Command) (firewall.Backend, error) {
	if name == "" {
		return nil, nil
	}
	names := backends.Names(s.backends)
	if i := slices.Index(names, name); i >= 0 {
		return s.backends[i], nil
	}
	return nil, &ui.UsageError{Err: unknownBackend(name, names), Cmd: cmd}
}
