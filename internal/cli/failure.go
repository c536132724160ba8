package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/client/knocker"
	"postern/internal/firewall"
	"postern/internal/handout"
	"postern/internal/lab"
	"postern/internal/policy"
)

// The exit codes. They are part of what the program promises: scripts rely on
// them.
const (
	codeDone        = 0
	codeFailed      = 1
	codeUsage       = 2
	codePolicy      = 3 // the policy is invalid
	codePrivilege   = 4 // no privilege
	codeUnsupported = 5 // not supported here
	codeShut        = 6 // a door stays shut
	codeInterrupted = 130
)

// A failure is why a verb did not do its work, as a person is told. It is an
// error, so that a verb which knows its words best returns one itself.
type failure struct {
	Code        int                 `json:"code"`
	Message     string              `json:"message"`
	Hints       []string            `json:"hints,omitempty"`
	Diagnostics []policy.Diagnostic `json:"diagnostics,omitempty"`

	// Of an opening: how many rounds it took, and how long.
	Tries        int   `json:"tries,omitempty"`
	Milliseconds int64 `json:"milliseconds,omitempty"`

	gist     string // the message without its numbers, where it has any
	quiet    bool   // everything has been said to a person
	answered bool   // and to a program
	err      error
}

func (f *failure) Error() string { return f.Message }
func (f *failure) Unwrap() error { return f.err }

// A usageError is a command line that cannot be understood.
type usageError struct {
	err   error
	cmd   *cobra.Command
	quiet bool // the help has been shown
}

func (e *usageError) Error() string { return e.err.Error() }

// explain makes any error a failure.
func explain(err error) *failure {
	var (
		f           *failure
		usage       *usageError
		invalid     *policy.InvalidError
		beyond      *firewall.InexpressibleError
		permission  *firewall.PermissionError
		unsupported *firewall.UnsupportedError
		busy        *firewall.BusyError
		unavailable *lab.UnavailableError
		ping        *knocker.PingError
		family      *knocker.FamilyError
		unfit       *handout.UnfitError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &usage):
		if usage.quiet {
			return &failure{Code: codeUsage, Message: sayNoVerb, quiet: true}
		}
		return &failure{Code: codeUsage, Message: usage.Error(), Hints: []string{seeHelp(usage.cmd.CommandPath())}}
	case errors.As(err, &invalid):
		return &failure{Code: codePolicy, Message: sayInvalid(invalid), Diagnostics: invalid.Diagnostics}
	case errors.As(err, &beyond):
		return &failure{Code: codePolicy, Message: sayBeyond(beyond), Diagnostics: beyond.Diagnostics}
	case errors.As(err, &unfit):
		return &failure{Code: codeFailed, Message: err.Error(), Hints: []string{unfit.Hint}}
	case errors.As(err, &permission):
		return &failure{Code: codePrivilege, Message: err.Error(), Hints: []string{hintPrivilege}}
	case errors.As(err, &unsupported):
		return &failure{Code: codeUnsupported, Message: err.Error(), Hints: []string{unsupported.Hint}}
	case errors.As(err, &unavailable):
		return &failure{Code: codeUnsupported, Message: sayUnavailable(unavailable), Hints: []string{unavailable.Remedy}}
	case errors.As(err, &ping):
		return &failure{Code: codePrivilege, Message: err.Error(), Hints: []string{hintPing}}
	case errors.As(err, &family):
		return &failure{Code: codeFailed, Message: err.Error(), Hints: anyFamily(family)}
	case errors.As(err, &busy):
		return &failure{Code: codeFailed, Message: err.Error(), Hints: []string{hintBusy}}
	}
	return &failure{Code: codeFailed, Message: err.Error()}
}

// unreadable explains why a policy file could not be read.
func unreadable(file string, err error) *failure {
	// The path is named once, by us.
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	f := &failure{Code: codeFailed, Message: sayUnreadable(file, err), err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Hints = []string{hintNoPolicy}
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Hints = codePrivilege, []string{hintReadPolicy}
	}
	return f
}

func interrupted() *failure {
	return &failure{Code: codeInterrupted, Message: sayInterrupted}
}

// bug explains a panic, with the place in our code where it came from.
func bug(value any) *failure {
	place := "?"
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if strings.HasPrefix(frame.Function, "postern/") {
			place = fmt.Sprintf("%s:%d", frame.Function, frame.Line)
			break
		}
	}
	return &failure{Code: codeFailed, Message: sayBug(value, place), Hints: []string{hintBug}}
}
