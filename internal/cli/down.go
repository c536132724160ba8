package cli

import (
	"context"

	"github.com/spf13/cobra"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

func (s *session) downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: shortDown,
		Long:  longDown,
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return s.down(cmd.Context()) },
	}
}

// removed is the answer of down to programs.
type removed struct {
	Removed  bool     `json:"removed"` // false: there was nothing
	Backends []string `json:"backends"`
	Open     []string `json:"open,omitempty"`

	rules bool // not only what verifies keys
}

func (s *session) down(ctx context.Context) error {
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer c.End()
	loaded, err := s.loaded(backends.Look(s.backends))
	if err != nil {
		return err
	}
	answer := removed{Backends: []string{}}
	for _, r := range loaded {
		if !r.Status.Loaded {
			continue
		}
		if err := r.Remove(); err != nil {
			return err
		}
		answer.Removed, answer.rules, answer.Backends = true, true, append(answer.Backends, r.Name())
		// What is open now can be named if FILE is what was loaded; whether
		// it can still be read must not keep anybody from taking it down.
		if m, err := s.machine(r); err == nil && r.Digest(m) == r.Status.Digest {
			for i := range m.Services {
				answer.Open = append(answer.Open, m.Services[i].String())
			}
		}
	}
	// Others may have removed the rules alone.
	for _, b := range s.backends {
		v, able := b.(firewall.KeyVerifier)
		if !able {
			continue
		}
		found, err := v.StopVerifying()
		if err != nil {
			return stillVerified(err)
		}
		if found {
			answer.Removed, answer.Backends = true, append(answer.Backends, b.Name())
		}
	}
	err = c.Forget()
	c.End()
	if err != nil {
		return notForgotten(err)
	}
	if s.JSON {
		return s.Answer(answer)
	}
	s.sayRemoved(answer)
	return nil
}
