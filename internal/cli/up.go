package cli

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/policy"
	"postern/internal/preflight"
)

func (s *session) upCommand() *cobra.Command {
	var yes, boot bool
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
			if boot {
				return s.up(cmd.Context(), s.bootSource, b, takeRisk)
			}
			risk := refuseRisk
			if yes {
				risk = takeRisk
			}
			src, err := s.fileSource() // before the lock: it may be typed
			if err != nil {
				return err
			}
			return s.up(cmd.Context(), func(*change.Change) (source, error) { return src, nil }, b, risk)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, flagYes)
	cmd.Flags().BoolVar(&boot, "boot", false, flagBoot)
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
	Saved    bool         `json:"saved,omitempty"` // it is the copy of the file that ran last
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

// A source is a policy that is to be loaded.
type source struct {
	*policy.Policy
	file, text string
	saved      bool             // it is the copy of the file that ran last
	backend    firewall.Backend // that it ran by; nil if that is not known
}

// up loads a policy by a backend; nil is the policy's, or else the one in use.
func (s *session) up(ctx context.Context, from func(*change.Change) (source, error), b firewall.Backend, risk risk) error {
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer c.End()
	src, err := from(c)
	if err != nil {
		return err
	}
	survey := backends.Look(s.backends)
	switch {
	case b != nil:
	case src.Backend == "" && src.backend != nil:
		b = src.backend
	default:
		b = survey.For(src.Policy)
	}
	m, err := b.Machine(src.Policy)
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
	if err := s.keep(c, change.Saved{Backend: b.Name(), RuleSet: digest, File: src.file, Policy: src.text}); err != nil {
		return err
	}
	return s.answerLoaded(loaded{
		File: src.file, Saved: src.saved, Backend: b.Name(), RuleSet: digest,
		Replaced: replaces(takeover.Before, digest), TakenOut: removed,
	}, b, m)
}

// fileSource is the policy file.
func (s *session) fileSource() (source, error) {
	p, text, err := s.policyFile()
	return source{Policy: p, file: s.file, text: string(text)}, err
}

// bootSource is what a machine loads when it boots: the policy that ran last, or else
// the policy file. An edited file is not loaded before somebody says "postern up".
func (s *session) bootSource(c *change.Change) (source, error) {
	if c.Saved == nil {
		return s.fileSource()
	}
	if !c.Saved.Loaded {
		return source{}, neverConfirmed(s.file)
	}
	p, err := c.Saved.Parse()
	if err != nil { // an earlier version wrote it
		s.Warn(savedInvalid(s.file, err))
		return s.fileSource()
	}
	src := source{Policy: p, file: c.Saved.File, text: c.Saved.Policy, saved: true}
	if i := slices.Index(backends.Names(s.backends), c.Saved.Backend); i >= 0 {
		src.backend = s.backends[i]
	}
	return src, nil
}

// keep saves what the kernel runs.
func (s *session) keep(c *change.Change, saved change.Saved) error {
	saved.Loaded, saved.When = true, time.Now()
	if err := c.Keep(saved); err != nil {
		return notSaved(err)
	}
	if err := c.Missing(); err != nil {
		s.Warn(notKept(err))
	}
	return nil
}

func (s *session) answerLoaded(answer loaded, b firewall.Backend, m *automaton.Machine) error {
	answer.Warnings = s.Remarks
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
