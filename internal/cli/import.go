package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/migrate"
	"postern/internal/policy"
)

func (s *session) importCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "import FILE",
		Short:   shortImport,
		Long:    longImport,
		Example: exampleImport,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("file") {
				return &ui.UsageError{Err: importTakesNoFlag(), Cmd: cmd}
			}
			if len(args) == 0 {
				return &ui.UsageError{Err: errors.New(sayNoImport), Cmd: cmd}
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error { return s.importFile(args[0]) },
	}
	ui.WithoutPolicy(cmd)
	return cmd
}

// imported is the answer of import to programs.
type imported struct {
	File   string           `json:"file"`
	Kind   migrate.Kind     `json:"kind"`
	Policy string           `json:"policy"`
	Left   []migrate.Remark `json:"left"`
}

func (s *session) importFile(name string) error {
	name, text, err := s.configuration(name)
	if err != nil {
		return err
	}
	result, err := migrate.Read(name, text)
	if err != nil {
		return s.notImported(name, err)
	}
	if s.JSON {
		return s.Answer(imported{name, result.Kind, result.Policy, append([]migrate.Remark{}, result.Remarks...)})
	}
	if _, err := io.WriteString(s.Out, result.Policy); err != nil {
		return err
	}
	s.sayLeft(name, result.Remarks)
	s.sayImported(result.Kind, len(result.Remarks))
	return nil
}

// configuration reads the file, and returns the name to call it by.
func (s *session) configuration(name string) (string, []byte, error) {
	from := s.stdin
	if name == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return name, nil, notRead(name, err)
		}
		defer f.Close()
		from = f
	}
	// One byte more than is taken, for the reader to see that it is too long.
	text, err := io.ReadAll(io.LimitReader(from, policy.MaxSize+1))
	if err != nil {
		return name, nil, notRead(name, err)
	}
	return name, text, nil
}

func notRead(name string, err error) *ui.Failure {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	f := &ui.Failure{Code: ui.CodeFailed, Message: sayNotRead(name, err), Err: err}
	if errors.Is(err, fs.ErrPermission) {
		f.Code, f.Hints = ui.CodePrivilege, []string{hintReadPolicy}
	}
	return f
}

// notImported explains what is wrong with a configuration. Programs get what
// was left out as diagnostics; a person has read it by then.
func (s *session) notImported(name string, err error) *ui.Failure {
	f := &ui.Failure{Code: ui.CodePolicy, Message: err.Error(), Hints: []string{migrate.Understood}, Err: err}
	if unknown, ok := errors.AsType[*migrate.UnknownError](err); ok && unknown.Remedy != "" {
		f.Hints = []string{unknown.Remedy}
	}
	empty, ok := errors.AsType[*migrate.EmptyError](err)
	if !ok {
		return f
	}
	f.Hints = []string{hintNothingLeft}
	s.sayLeft(name, empty.Remarks)
	if s.JSON {
		for _, l := range empty.Remarks {
			f.Diagnostics = append(f.Diagnostics, policy.Diagnostic{File: name, Line: l.Line, Column: 1, Width: len([]rune(l.Text)), Message: l.Why, Source: l.Text})
		}
	}
	return f
}
