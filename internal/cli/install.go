package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/systemd"
)

func (s *session) installCommand() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:     "install",
		Short:   shortInstall,
		Long:    longInstall,
		Example: exampleInstall,
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if err := s.systemdHere(dry); err != nil {
				return err
			}
			program, err := os.Executable()
			if err == nil {
				program, err = filepath.EvalSymlinks(program)
			}
			if err != nil {
				return err
			}
			// What is loaded at boot is loaded now, too, if it is what runs.
			kept, _ := change.Here().Read()
			wanted := kept.Wanted()
			plan, err := systemd.Host{}.Install(program, wanted != nil && wanted.Loaded)
			if err != nil {
				return unitsFailure(err)
			}
			if err := s.carryOut(plan, dry); err != nil {
				return err
			}
			if !dry && !s.JSON {
				s.Say(sayInstalled)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, flagDryRun)
	ui.WithoutPolicy(cmd)
	return cmd
}

// steps is the answer of install and uninstall to programs.
type steps struct {
	DryRun   bool         `json:"dry_run"`
	Steps    systemd.Plan `json:"steps"`
	Warnings []ui.Remark  `json:"warnings"`
}

// systemdHere refuses a host that systemd does not run. What is only printed may be for
// another one.
func (s *session) systemdHere(dry bool) error {
	switch {
	case systemd.Host{}.Booted():
	case dry:
		s.Warn(printedOnly())
	default:
		return unitsFailure(systemd.ErrNoSystemd)
	}
	return nil
}

// carryOut does what is planned and says so, or only prints it.
func (s *session) carryOut(plan systemd.Plan, dry bool) error {
	if !dry {
		if err := (systemd.Host{}).Do(plan); err != nil {
			return unitsFailure(err)
		}
	}
	switch {
	case s.JSON:
		return s.Answer(steps{dry, append(systemd.Plan{}, plan...), s.Remarks})
	case dry:
		_, err := io.WriteString(s.Out, planText(plan))
		return err
	}
	for _, step := range plan {
		s.Say("%s", doneText(step))
	}
	return nil
}

// unitsFailure explains why units were not written or removed.
func unitsFailure(err error) error {
	foreign, _ := errors.AsType[*systemd.ForeignError](err)
	hidden, _ := errors.AsType[*systemd.HiddenError](err)
	f := &ui.Failure{Code: ui.CodeFailed, Message: err.Error(), Err: err}
	switch {
	case errors.Is(err, systemd.ErrNoSystemd):
		f.Code, f.Hints = ui.CodeUnsupported, []string{hintNoSystemd}
	case foreign != nil:
		f.Hints = []string{hintForeign}
	case hidden != nil:
		f.Hints = []string{hintHidden}
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Hints = ui.CodePrivilege, []string{hintInstallAsRoot}
	}
	return f
}

// planText is a plan for a person: whole files, indented, and commands.
func planText(plan systemd.Plan) string {
	var b strings.Builder
	for _, step := range plan {
		switch {
		case step.Write != nil:
			b.WriteString("write " + step.Write.Path + "\n")
			for line := range strings.Lines(step.Write.Text) {
				b.WriteString(strings.TrimRight("    "+line, " \n") + "\n")
			}
		case step.Remove != "":
			b.WriteString("remove " + step.Remove + "\n")
		default:
			b.WriteString("run " + strings.Join(step.Run, " ") + "\n")
		}
	}
	return b.String()
}

func doneText(step systemd.Step) string {
	switch {
	case step.Write != nil:
		return "wrote " + step.Write.Path
	case step.Remove != "":
		return "removed " + step.Remove
	}
	return "ran " + strings.Join(step.Run, " ")
}
