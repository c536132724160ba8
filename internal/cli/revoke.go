package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
)

func (s *session) revokeCommand() *cobra.Command {
	var all, cut bool
	var user string
	cmd := &cobra.Command{
		Use:     "revoke {DOOR ADDRESS | --user NAME | --all}",
		Short:   shortRevoke,
		Long:    longRevoke,
		Example: exampleRevoke,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case all && user != "":
				return &ui.UsageError{Err: errAllOrUser, Cmd: cmd}
			case all || user != "":
				return exactly(0)(cmd, args)
			}
			if len(args) == 1 {
				return &ui.UsageError{Err: errNotUser, Cmd: cmd}
			}
			return doorAndAddress(cmd, args)
		},
		ValidArgsFunction: s.completeDoorFirst,
		RunE: func(cmd *cobra.Command, args []string) error {
			r := firewall.Revocation{Cut: cut}
			switch {
			case all:
				return s.revoke(cmd.Context(), "", r)
			case user != "":
				return s.revokeUser(cmd.Context(), user, r)
			}
			var err error
			if r.From, err = clientAddress(args[1], cmd); err != nil {
				return err
			}
			return s.revoke(cmd.Context(), args[0], r)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, flagRevokeAll)
	cmd.Flags().StringVar(&user, "user", "", flagRevokeUser)
	cmd.Flags().BoolVar(&cut, "cut", false, flagCut)
	return cmd
}

// revoked is the answer of revoke to programs.
type revoked struct {
	Door    string `json:"door,omitempty"`    // empty: all
	Address string `json:"address,omitempty"` // the same
	User    string `json:"user,omitempty"`    // whose keys had earned them
	Backend string `json:"backend"`
	Grants  int    `json:"grants"`            // that were taken away: of very many a part is counted
	Partial bool   `json:"partial,omitempty"` // the keys may have earned more than was read
	Cut     *cut   `json:"cut,omitempty"`
}

type cut struct {
	Connections int `json:"connections"`         // that have ended
	Own         int `json:"own"`                 // connections of the caller, which have not
	MayGoOn     int `json:"may_go_on,omitempty"` // of those that have ended, where their server is the next to send
	// Others that go on through the doors of a user: from where the user's keys have opened
	// nothing, as far as is known, or somebody else's have, too.
	Left []leftOpen `json:"left,omitempty"`
}

// cutBy returns what a revocation says of connections.
func cutBy(gone firewall.Revoked) *cut {
	c := &cut{Connections: gone.Connections, Own: gone.Spared, MayGoOn: gone.MayGoOn}
	for _, l := range gone.Left {
		c.Left = append(c.Left, leftOpen{l.Door, l.Address.String(), l.Connections})
	}
	return c
}

// A leftOpen is an address with connections through a door.
type leftOpen struct {
	Door        string `json:"door"`
	Address     string `json:"address"`
	Connections int    `json:"connections"`
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
			r.Spare = host.WayIn()
		}
		gone, err := by.Revoke(m, r)
		if err != nil {
			return err
		}
		answer.Grants = gone.Grants
		if r.Cut {
			answer.Cut = cutBy(gone)
		}
		return s.answerRevoked(answer)
	})
}

func (s *session) answerRevoked(r revoked) error {
	if s.JSON {
		return s.Answer(r)
	}
	s.sayRevoked(r)
	return nil
}

// revokeUser takes away what the keys of a user's devices have earned.
func (s *session) revokeUser(ctx context.Context, user string, r firewall.Revocation) error {
	return s.byHand(ctx, func(m *automaton.Machine, b backends.Answer, by firewall.Granter) error {
		var names []string
		for i := range m.Policy.Users {
			names = append(names, m.Policy.Users[i].Name)
		}
		if !slices.Contains(names, user) {
			return unknownUser(user, names)
		}
		if r.Cut {
			r.Spare = host.WayIn()
		}
		known := keyNames(m)
		gone, err := firewall.RevokeOpened(b.Backend, m, b.Status, r, func(u firewall.KeyUse) bool {
			owner, _, _ := strings.Cut(known.device(u), "/")
			return owner == user
		})
		if err != nil {
			return err
		}
		answer := revoked{User: user, Backend: b.Name(), Grants: gone.Grants, Partial: gone.Partial}
		if r.Cut {
			answer.Cut = cutBy(gone)
		}
		return s.answerRevoked(answer)
	})
}
