package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/preflight"
)

func (s *session) upCommand() *cobra.Command {
	var yes bool
	var backend *string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   shortUp,
		Long:    longUp,
		Example: exampleUp,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			risk := refuseRisk
			if yes {
				risk = takeRisk
			}
			return s.up(b, risk)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, flagYes)
	backend = s.backendFlag(cmd)
	return cmd
}

// What up does about findings that are errors.
type risk int

const (
	refuseRisk risk = iota
	takeRisk
)

// loaded is the answer of up to programs.
type loaded struct {
	File     string       `json:"file"`
	Backend  string       `json:"backend"`
	With     string       `json:"with,omitempty"` // the program that loaded the rules, and its version
	RuleSet  string       `json:"rule_set"`
	Replaced string       `json:"replaced"`            // "nothing", "same", "altered" (the same, which another program had modified) or "other"
	TakenOut []string     `json:"taken_out,omitempty"` // other backends, whose rules were loaded
	Doors    []loadedDoor `json:"doors"`
	Warnings []ui.Remark  `json:"warnings"`
}

type loadedDoor struct {
	Name     string   `json:"name"`
	Services []string `json:"services"`
}

// up loads the policy by a backend; nil is the one in use.
func (s *session) up(b firewall.Backend, risk risk) error {
	survey := backends.Look(s.backends)
	if b == nil {
		b = survey.InUse()
	}
	m, err := s.machine(b)
	if err != nil {
		return err
	}
	takeover, err := survey.TakeOver(b)
	if err != nil {
		return err
	}
	if errors := s.report(preflight.Look(m, b, survey), risk); errors > 0 {
		return notLoaded(errors)
	}
	digest := b.Digest(m)
	removed, err := takeover.Apply(m)
	if err != nil {
		return err
	}
	answer := loaded{
		File: s.file, Backend: b.Name(), RuleSet: digest, Replaced: replaces(takeover.Before, digest),
		TakenOut: removed, Warnings: s.Remarks,
	}
	if d, ok := b.(firewall.Delegate); ok {
		answer.With, _ = d.Program()
	}
	for i := range m.Doors {
		answer.Doors = append(answer.Doors, loadedDoor{m.Doors[i].Name, services(m, &m.Doors[i])})
	}
	if s.JSON {
		return s.Answer(answer)
	}
	s.sayLoaded(answer)
	return nil
}

// report says what preflight has found, and returns how many errors there are. To a
// person who takes the risk an error is a warning.
func (s *session) report(found []preflight.Finding, risk risk) (errors int) {
	for _, f := range found {
		if f.Severity == preflight.Error {
			if risk == takeRisk {
				f.Severity = preflight.Warning
			} else {
				errors++
			}
		}
		s.Warn(ui.AboutFinding(f))
	}
	return errors
}

// replaces returns what a rule set takes the place of.
func replaces(before *firewall.Status, digest string) string {
	switch {
	case !before.Loaded:
		return "nothing"
	case before.Digest != digest:
		return "other"
	case before.Altered:
		return "altered"
	}
	return "same"
}
