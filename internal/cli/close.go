package cli

import (
	"cmp"
	"context"
	"errors"
	"net/netip"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
)

func (s *session) closeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "close NAME",
		Short:             shortClose,
		Long:              longClose,
		Example:           exampleClose,
		Args:              oneHost,
		ValidArgsFunction: completeHost,
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.host(args[0])
			if err != nil {
				return err
			}
			return s.close(cmd.Context(), h)
		},
	}
	ui.WithoutPolicy(cmd)
	return cmd
}

// closed is the answer of close to programs.
type closed struct {
	Host      string      `json:"host"`
	Addresses []string    `json:"addresses"` // that it was sent to
	Shut      bool        `json:"shut"`      // no connection comes about from here; false for UDP, where nothing shows
	Warnings  []ui.Remark `json:"warnings"`
}

// close closes the door at all addresses of the host: at which of them it was opened is not
// known. One that cannot be reached from here was not opened from here either; it fails
// only if that holds for all.
func (s *session) close(ctx context.Context, h *hosts.Host) error {
	looking, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	addresses, err := client.LookUp(looking, h.Address, client.FamilyOf(h))
	if err != nil {
		return err
	}
	answer := closed{Host: h.Name}
	var to []netip.Addr
	var unreached []ui.Remark
	var failed error
	for _, a := range addresses {
		looked, err := client.Close(ctx, a, h, cmp.Or(h.Gap, usualDelay))
		_, open := errors.AsType[*client.OpenError](err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case open:
			failed = errors.Join(failed, err)
		case err != nil:
			unreached = append(unreached, ui.Remark{Message: err.Error()})
			if len(unreached) == len(addresses) {
				return err
			}
		default:
			to = append(to, a)
			answer.Addresses, answer.Shut = append(answer.Addresses, a.String()), looked
		}
	}
	if failed != nil {
		return failed
	}
	s.Warn(unreached...)
	if s.JSON {
		answer.Warnings = s.Remarks
		return s.Answer(answer)
	}
	s.sayClosed(h, to, answer.Shut)
	return nil
}
