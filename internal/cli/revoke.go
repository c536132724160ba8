package cli

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/key"
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
	Grants  int    `json:"grants"` // that were taken away: of very many a part is counted
	Cut     *cut   `json:"cut,omitempty"`
}

type cut struct {
	Connections int `json:"connections"` // that have ended
	Own         int `json:"own"`         // connections of the caller, which have not
	// Others that go on through the doors of a user: from where the user's keys have opened
	// nothing, as far as is known, or somebody else's have, too.
	Left []leftOpen `json:"left,omitempty"`
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
			r.Spare = ownRemotes()
		}
		gone, err := by.Revoke(m, r)
		if err != nil {
			return err
		}
		answer.Grants = gone.Grants
		if r.Cut {
			answer.Cut = &cut{Connections: gone.Connections, Own: gone.Spared}
		}
		if s.JSON {
			return s.Answer(answer)
		}
		s.sayRevoked(answer)
		return nil
	})
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
		known := keyNames(m)
		taken, err := takeOpened(m, b, by, r.Cut, func(d key.Device) bool {
			owner, _, _ := strings.Cut(known.device(d), "/")
			return owner == user
		})
		if err != nil {
			return err
		}
		answer := revoked{User: user, Backend: b.Name(), Grants: taken.grants, Cut: taken.cut}
		if s.JSON {
			return s.Answer(answer)
		}
		s.sayRevoked(answer)
		return nil
	})
}

// taken is what was taken away of what keys had opened.
type taken struct {
	grants int
	cut    *cut // nil unless connections were to end
}

// takeOpened takes away the grants that keys of some devices have given, and none that were
// given by another's key since, by a knock or by hand. With ends, the connections end that
// come from where these keys have opened the door, and nobody else's key has.
func takeOpened(m *automaton.Machine, b backends.Answer, by firewall.Granter, ends bool, theirs func(key.Device) bool) (t taken, err error) {
	if err := firewall.ReadSources(b.Backend, b.Status); err != nil {
		return t, err
	}
	if ends {
		t.cut = &cut{}
	}
	last := giversOf(b.Status.Keys)
	given, others := map[opened]bool{}, map[opened]bool{}
	for _, g := range b.Status.Grants {
		grant := m.Grant(g.ID)
		if grant == nil {
			continue // its door is gone
		}
		door := m.Doors[grant.Door].Name
		if giver := last.of(g, door); giver != nil && theirs(giver.Device) {
			given[opened{giver.Door, g.Source}] = true
		}
	}
	doors := map[key.Door]bool{}
	for _, use := range b.Status.Keys {
		doors[use.Door] = doors[use.Door] || theirs(use.Device)
		for _, o := range use.Opened {
			if at := (opened{use.Door, o.Source}); !theirs(use.Device) {
				others[at] = true
			}
		}
	}
	own := ownRemotes()
	for at := range last {
		i := slices.IndexFunc(m.Doors, func(d automaton.Door) bool { return key.DoorID(d.Name) == at.door })
		cuts := ends && doors[at.door] && !others[at]
		if i < 0 || !given[at] && !cuts {
			continue
		}
		gone, err := by.Revoke(m, firewall.Revocation{Door: &m.Doors[i], From: at.source, Keep: !given[at], Cut: cuts, Spare: own})
		if err != nil {
			return t, err
		}
		t.grants += gone.Grants
		if ends {
			t.cut.Connections += gone.Connections
			t.cut.Own += gone.Spared
		}
	}
	if !ends {
		return t, nil
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		if !doors[key.DoorID(d.Name)] {
			continue
		}
		open, err := by.Open(m, d)
		if err != nil {
			return t, err
		}
		left := map[netip.Addr]int{}
		for _, remote := range open {
			if !slices.Contains(own, remote) {
				left[remote.Addr()]++
			}
		}
		for _, a := range slices.SortedFunc(maps.Keys(left), netip.Addr.Compare) {
			t.cut.Left = append(t.cut.Left, leftOpen{d.Name, a.String(), left[a]})
		}
	}
	return t, nil
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
