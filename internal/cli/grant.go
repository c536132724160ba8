package cli

import (
	"context"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

func (s *session) grantCommand() *cobra.Command {
	lasts := ui.Duration{Min: minGrant, Max: maxGrant}
	cmd := &cobra.Command{
		Use:               "grant DOOR ADDRESS",
		Short:             shortGrant,
		Long:              longGrant,
		Example:           exampleGrant,
		Args:              doorAndAddress,
		ValidArgsFunction: s.completeDoorFirst,
		RunE: func(cmd *cobra.Command, args []string) error {
			to, err := clientAddress(args[1], cmd)
			if err != nil {
				return err
			}
			return s.grant(cmd.Context(), args[0], to, lasts.Value)
		},
	}
	cmd.Flags().Var(&lasts, "for", flagFor)
	return cmd
}

// How long a grant by hand may last.
const (
	minGrant = time.Second
	maxGrant = 30 * 24 * time.Hour
)

// granted is the answer of grant to programs.
type granted struct {
	Door     string   `json:"door"`
	Services []string `json:"services"`
	Address  string   `json:"address"`
	Source   string   `json:"source"` // whoever counts as the same sender as the address
	Backend  string   `json:"backend"`
	Lasts    float64  `json:"seconds"`
	Admit    string   `json:"admit"`

	lasts time.Duration
}

func (s *session) grant(ctx context.Context, name string, to netip.Addr, lasts time.Duration) error {
	return s.byHand(ctx, func(m *automaton.Machine, b backends.Answer, by firewall.Granter) error {
		d, err := doorOf(m, name)
		if err != nil {
			return err
		}
		switch {
		case !d.HasFamilyOf(to):
			return notOfFamily(d, to)
		case !d.AcceptsFrom(to):
			return notFrom(d, to)
		}
		if lasts == 0 {
			lasts = d.OpenFor
		}
		if err := by.Grant(m, d, to, lasts); err != nil {
			return err
		}
		answer := granted{
			Door: d.Name, Services: services(m, d), Address: to.String(), Source: m.Policy.Source.Prefix(to).String(),
			Backend: b.Name(), Lasts: lasts.Seconds(), Admit: string(d.Admit), lasts: lasts,
		}
		if s.JSON {
			return s.Answer(answer)
		}
		s.sayGranted(answer)
		return nil
	})
}

// byHand calls do with the machine that the kernel runs, while nobody else changes it.
func (s *session) byHand(ctx context.Context, do func(*automaton.Machine, backends.Answer, firewall.Granter) error) error {
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer c.End()
	loaded, err := s.loaded(backends.Look(s.backends))
	if err != nil {
		return err
	}
	b := loaded[0]
	by, able := b.Backend.(firewall.Granter)
	switch {
	case !b.Status.Loaded:
		return nothingToGrant()
	case len(loaded) > 1:
		return severalBackends().failure()
	case !able:
		return notByHand(b.Name())
	}
	file, err := s.machine(b.Backend)
	m := c.State.Runs(b.Backend, b.Status, file)
	switch {
	case m == nil && err != nil:
		return err
	case m == nil || b.Digest(m) != b.Status.Digest:
		return otherRules(s.file).failure()
	}
	return do(m, b, by)
}

// doorAndAddress accepts the name of a door and an address.
func doorAndAddress(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return &ui.UsageError{Err: errDoorAndAddress, Cmd: cmd}
	}
	return exactly(2)(cmd, args)
}

// clientAddress reads an address that a client can have.
func clientAddress(text string, cmd *cobra.Command) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, &ui.UsageError{Err: notAddress(text), Cmd: cmd}
	}
	a = a.Unmap().WithZone("")
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return a, &ui.UsageError{Err: notClient(text), Cmd: cmd}
	}
	return a, nil
}

// doorOf returns the door of that name.
func doorOf(m *automaton.Machine, name string) (*automaton.Door, error) {
	var names []string
	for i := range m.Doors {
		if m.Doors[i].Name == name {
			return &m.Doors[i], nil
		}
		names = append(names, m.Doors[i].Name)
	}
	return nil, unknownDoor(name, names)
}

// completeDoorFirst completes the first argument with the doors of the policy file.
func (s *session) completeDoorFirst(cmd *cobra.Command, args []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return s.completeDoor(cmd, args, start)
}
