package cli

import (
	"context"
	"net/netip"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
)

func (s *session) revokeCommand() *cobra.Command {
	var all, cut bool
	cmd := &cobra.Command{
		Use:     "revoke {DOOR ADDRESS | --all}",
		Short:   shortRevoke,
		Long:    longRevoke,
		Example: exampleRevoke,
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return exactly(0)(cmd, args)
			}
			return doorAndAddress(cmd, args)
		},
		ValidArgsFunction: s.completeDoorFirst,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := firewall.Revocation{Cut: cut}
			if all {
				return s.revoke(cmd.Context(), "", r)
			}
			var err error
			if r.From, err = clientAddress(args[1], cmd); err != nil {
				return err
			}
			return s.revoke(cmd.Context(), args[0], r)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, flagRevokeAll)
	cmd.Flags().BoolVar(&cut, "cut", false, flagCut)
	return cmd
}

// revoked is the answer of revoke to programs.
type revoked struct {
	Door    string `json:"door,omitempty"`    // empty: all
	Address string `json:"address,omitempty"` // the same
	Backend string `json:"backend"`
	Grants  int    `json:"grants"` // that were taken away: of very many a part is counted
	Cut     *cut   `json:"cut,omitempty"`
}

type cut struct {
	Connections int `json:"connections"` // that have ended
	Own         int `json:"own"`         // connections of the caller, which have not
}

// revoke takes grants away, at a door or at all of them.
func (s *session) revoke(ctx context.Context, door string, r firewall.Revocation) error {
	return s.byHand(ctx, func(m *automaton.Machine, b backends.Answer, by firewall.Granter) error {
		answer := revoked{Door: door, Backend: b.Name()}
		if r.From.IsValid() {
			d, err := doorOf(m, door)
			if err != nil {
				return err
			}
			if !d.HasFamilyOf(r.From) {
				return notOfFamily(d, r.From)
			}
			r.Door, answer.Address = d, r.From.String()
		}
		if r.Cut {
			r.Spare = ownRemotes()
		}
		gone, err := by.Revoke(m, r)
		if err != nil {
			return err
		}
		answer.Grants = gone.Grants
		if r.Cut {
			answer.Cut = &cut{gone.Connections, gone.Spared}
		}
		if s.JSON {
			return s.Answer(answer)
		}
		s.sayRevoked(answer)
		return nil
	})
}

// ownRemotes returns the other ends of the connections that the caller came by.
func ownRemotes() (all []netip.AddrPort) {
	for _, w := range host.WayIn() {
		if w.Remote.Port() != 0 {
			all = append(all, w.Remote)
		}
	}
	return all
}
