package cli

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/cli/ui"
	"postern/internal/doctor"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/preflight"
)

// lookFurther is doctor_linux.go's. Where nil, doctor says that it needs a kernel.
var lookFurther func(context.Context, doctor.Patient) (all []doctor.Entry, others bool)

func (s *session) doctorCommand() *cobra.Command {
	var scan bool
	var backend *string
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   shortDoctor,
		Long:    longDoctor,
		Example: exampleDoctor,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			return s.doctor(cmd.Context(), b, scan)
		},
	}
	cmd.Flags().BoolVar(&scan, "scan", true, flagScan)
	backend = s.backendFlag(cmd)
	return cmd
}

// examined is the answer of doctor to programs.
type examined struct {
	File     string         `json:"file"`
	Backend  string         `json:"backend"`
	Warnings []ui.Remark    `json:"warnings"` // those of check
	LookedAt []lookedAt     `json:"looked_at"`
	Accept   []acceptMarked `json:"accept,omitempty"` // how other firewalls accept what doors admit
}

type lookedAt struct {
	Topic    string      `json:"topic"`
	Severity string      `json:"severity"` // "ok", "note", "warning" or "error": the worst of its findings
	Seen     string      `json:"seen"`
	Lines    []string    `json:"lines,omitempty"`
	Findings []ui.Remark `json:"findings,omitempty"`
}

type acceptMarked struct {
	Program string       `json:"program"`
	Steps   []acceptStep `json:"steps"`
}

type acceptStep struct {
	Where string   `json:"where"`
	Lines []string `json:"lines"`
}

// doctor looks at all that may go wrong; a nil backend is the one that "up" would use.
func (s *session) doctor(ctx context.Context, b firewall.Backend, scan bool) error {
	survey := backends.Look(s.backends)
	m, b, err := s.machineFor(b, survey)
	if err != nil {
		return err
	}
	answer := examined{File: s.file, Backend: b.Name(), Warnings: []ui.Remark{}}
	topics := preflight.Topics(m, b, survey)
	for _, t := range topics {
		for _, f := range t.Findings {
			answer.Warnings = append(answer.Warnings, ui.AboutFinding(f))
		}
	}
	stop := s.sayWhile(time.Second, sayScanning)
	entries, others := lookFurther(ctx, doctor.Patient{Machine: m, Backend: b, File: s.file, Scan: scan})
	stop()
	entries = slices.Concat([]doctor.Entry{s.loadedRules(m, b, survey)}, doctor.Of(topics), entries)
	errors := 0
	for i := range entries {
		e := &entries[i]
		l := lookedAt{Topic: e.Name, Severity: sayOK, Seen: e.Seen, Lines: e.Lines}
		if worst, well := e.Severity(); !well {
			l.Severity = worst.String()
		}
		for _, f := range e.Findings {
			l.Findings = append(l.Findings, ui.AboutFinding(f))
			if f.Severity == preflight.Error {
				errors++
			}
		}
		answer.LookedAt = append(answer.LookedAt, l)
	}
	if others {
		answer.Accept = acceptance(m)
	}
	if s.JSON {
		err = s.Answer(answer)
	} else {
		_, err = io.WriteString(s.Out, s.examinedText(answer))
	}
	if err != nil {
		return err
	}
	if errors > 0 {
		return unwell(errors)
	}
	return nil
}

// loadedRules looks whether the kernel runs what the rest of the report is about.
func (s *session) loadedRules(m *automaton.Machine, b firewall.Backend, survey backends.Survey) doctor.Entry {
	e := doctor.Entry{Topic: preflight.Topic{Name: "loaded rules"}, Seen: "those of this policy"}
	loaded, _, err := survey.Loaded()
	if err != nil || !loaded[0].Status.Loaded {
		e.Seen, e.Unseen = "none", err != nil
		if err != nil {
			e.Seen = "not looked at: " + err.Error()
		}
		return e
	}
	runs, status := loaded[0].Backend, loaded[0].Status
	var problems []problem
	if len(loaded) > 1 {
		problems = append(problems, severalBackends())
	} else if runs.Name() != b.Name() {
		problems = append(problems, reportOfOther(runs.Name(), b.Name(), survey.For(m.Policy).Name()))
	}
	if same, err := runs.Machine(m.Policy); err != nil || runs.Digest(same) != status.Digest {
		problems = append(problems, otherRules(s.file))
	}
	if status.Altered {
		problems = append(problems, modified())
	}
	for _, p := range problems {
		e.Seen = "not those that this is about"
		e.Findings = append(e.Findings, preflight.Finding{Kind: doctor.OtherRulesLoaded, Severity: preflight.Warning, Message: p.Message, Hints: p.Hints})
	}
	return e
}

// acceptance returns how other firewalls accept what the doors of a machine admit.
func acceptance(m *automaton.Machine) []acceptMarked {
	var all []acceptMarked
	for _, section := range preflight.AcceptMarked(m) {
		a := acceptMarked{Program: section.Program}
		for _, step := range section.Steps {
			a.Steps = append(a.Steps, acceptStep{step.Text, step.Lines})
		}
		all = append(all, a)
	}
	return all
}

// sayWhile says on a terminal what takes long, unless stop is called before.
func (s *session) sayWhile(after time.Duration, what string) (stop func()) {
	if columns, _ := s.Screen(); columns == 0 {
		return func() {}
	}
	timer := time.AfterFunc(after, func() { s.Say("%s", what) })
	return func() { timer.Stop() }
}

// bySeverity sorts what was looked at, the worst first; but before all, whether this is
// about the rules that are loaded, if it is not.
func bySeverity(all []lookedAt) []lookedAt {
	order := []string{preflight.Error.String(), preflight.Warning.String(), preflight.Note.String(), sayOK}
	all = slices.Clone(all)
	rest := all
	if all[0].Severity != sayOK {
		rest = all[1:]
	}
	slices.SortStableFunc(rest, func(a, b lookedAt) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
	return all
}
