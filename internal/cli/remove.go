package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
)

func (s *session) removeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "remove NAME",
		SuggestFor:        []string{"delete", "del", "rm"},
		Short:             shortRemove,
		Long:              longRemove,
		Example:           exampleRemove,
		Args:              oneHost,
		ValidArgsFunction: completeHost,
		RunE:              func(cmd *cobra.Command, args []string) error { return s.remove(cmd.Context(), args[0]) },
	}
	ui.WithoutPolicy(cmd)
	return cmd
}

// removedHost is the answer of remove to programs.
type removedHost struct {
	File     string      `json:"file"`
	Name     string      `json:"name"`
	Warnings []ui.Remark `json:"warnings"`
}

func (s *session) remove(ctx context.Context, name string) error {
	file, err := s.hostsFile()
	if err != nil {
		return err
	}
	h, err := file.Get(name)
	if err != nil {
		return err
	}
	err = withoutKey(ctx, file, h, func() error { return hosts.Remove(file.Path, name) })
	if _, uneditable := errors.AsType[*hosts.UneditableError](err); uneditable {
		return notRemoved(h, file.Path)
	}
	if err != nil {
		return err
	}
	if s.JSON {
		return s.Answer(removedHost{File: file.Path, Name: name, Warnings: s.Remarks})
	}
	s.sayHostRemoved(h, file.Path)
	return nil
}
