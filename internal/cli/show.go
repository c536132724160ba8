package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/handout"
	"postern/internal/policy"
)

func (s *session) showCommand() *cobra.Command {
	var format, door string
	var comments bool
	cmd := &cobra.Command{
		Use:     "show",
		Short:   shortShow,
		Long:    longShow,
		Example: exampleShow,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			forms := s.forms()
			i := slices.IndexFunc(forms, func(f form) bool { return f.name == format })
			switch {
			case i < 0:
				return &ui.UsageError{Err: unknownFormat(format, forms), Cmd: cmd}
			case !forms[i].made():
				return notMade(format, forms)
			case cmd.Flags().Changed("door") && forms[i].client == nil:
				return &ui.UsageError{Err: wrongPlace("--door", "--format "+format), Cmd: cmd}
			case cmd.Flags().Changed("comments") && forms[i].rules == nil:
				return &ui.UsageError{Err: wrongPlace("--comments", "--format "+format), Cmd: cmd}
			}
			say := firewall.Plain
			if comments {
				say = firewall.Commented
			}
			return s.show(forms[i], say, door)
		},
	}
	names := namesOf(s.forms())
	cmd.Flags().StringVar(&format, "format", names[0], flagFormat(names))
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&comments, "comments", true, flagComments)
	cmd.Flags().StringVar(&door, "door", "", flagDoor)
	cmd.RegisterFlagCompletionFunc("door", s.completeDoor)
	return cmd
}

// A form is what a policy can be shown as: rules, what a client runs, or another
// text about the policy; none of them if it cannot be made on this system.
type form struct {
	name   string
	rules  func(*policy.Policy, firewall.Style) (text, ruleSet string, err error)
	client func(*policy.Door) (string, error)
	text   func(*policy.Policy) string
}

func (f form) made() bool { return f.rules != nil || f.client != nil || f.text != nil }

// forms returns every form, those of the backends first.
func (s *session) forms() []form {
	var forms []form
	for _, f := range backends.Formats(s.backends) {
		forms = append(forms, form{name: f.Name, rules: rulesIn(f)})
	}
	return append(forms,
		form{name: "client-sh", client: handout.ClientSh},
		form{name: "client-ps1", client: handout.ClientPowerShell},
		form{name: "ports", text: handout.Ports})
}

// rulesIn returns what writes rules in a backend's format; nil if nothing does here.
func rulesIn(f backends.Format) func(*policy.Policy, firewall.Style) (text, ruleSet string, err error) {
	if f.Render == nil {
		return nil
	}
	return func(p *policy.Policy, say firewall.Style) (text, ruleSet string, err error) {
		m, err := f.Backend.Machine(p)
		if err != nil {
			return "", "", err
		}
		return f.Render(m, say), f.Backend.Digest(m), nil
	}
}

// shown is the answer of show to programs.
type shown struct {
	File    string `json:"file"`
	Format  string `json:"format"`
	RuleSet string `json:"rule_set,omitempty"` // of rules
	Door    string `json:"door,omitempty"`     // of what a client runs
	Text    string `json:"text"`
}

func (s *session) show(as form, say firewall.Style, door string) error {
	p, err := s.policy()
	if err != nil {
		return err
	}
	answer := shown{File: s.file, Format: as.name}
	switch {
	case as.rules != nil:
		answer.Text, answer.RuleSet, err = as.rules(p, say)
	case as.client != nil:
		var d *policy.Door
		if d, err = doorNamed(p, door); err == nil {
			answer.Door = d.Name
			answer.Text, err = as.client(d)
		}
	default:
		answer.Text = as.text(p)
	}
	if err != nil {
		return err
	}
	if s.JSON {
		return s.Answer(answer)
	}
	_, err = fmt.Fprint(s.Out, answer.Text)
	return err
}

// doorNamed returns a door; where there is but one, it need not be named.
func doorNamed(p *policy.Policy, name string) (*policy.Door, error) {
	var names []string
	for i := range p.Doors {
		if d := &p.Doors[i]; d.Name == name || name == "" && len(p.Doors) == 1 {
			return d, nil
		}
		names = append(names, p.Doors[i].Name)
	}
	return nil, whichDoor(name, names)
}
