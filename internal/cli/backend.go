package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
)

// backendFlag lets a verb choose the backend.
func (s *session) backendFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("backend", "", flagBackend)
}

// chosen gives the backend of a name; of none, the one that is in use here.
func (s *session) chosen(name string, cmd *cobra.Command) (backend, error) {
	if name == "" {
		return s.inUse(), nil
	}
	var names []string
	for _, b := range s.backends {
		if b.Name() == name {
			return b, nil
		}
		names = append(names, b.Name())
	}
	return nil, &ui.UsageError{Err: unknownBackend(name, names), Cmd: cmd}
}
