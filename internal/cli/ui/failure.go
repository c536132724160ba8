package ui

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/change"
	"postern/internal/client"
	"postern/internal/client/knocker"
	"postern/internal/enroll"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/handout"
	"postern/internal/hosts"
	"postern/internal/lab"
	"postern/internal/policy"
)

// The exit codes. They are part of what the program promises: scripts rely on
// them.
const (
	CodeDone        = 0
	CodeFailed      = 1
	CodeUsage       = 2
	CodePolicy      = 3 // the policy is invalid
	CodePrivilege   = 4 // no privilege
	CodeUnsupported = 5 // not supported here
	CodeShut        = 6 // a door stays shut

	// What status finds wrong. Of several the lowest is the exit code.
	CodeNotLoaded      = 10 // there is a policy, and nothing is loaded
	CodeModified       = 11 // another program has modified the loaded rules
	CodeOtherPolicy    = 12 // what is loaded is not the policy
	CodeBareInterface  = 13 // packets come in through an interface without rules
	CodeOpenedByOthers = 14 // rules of others open what a door hides

	CodeInterrupted = 130
)

// A Failure is why a verb did not do its work, in the words for a person. It is an
// error: a verb that knows these words best returns one.
type Failure struct {
	Code        int                 `json:"code"`
	Message     string              `json:"message"`
	Hints       []string            `json:"hints,omitempty"`
	Diagnostics []policy.Diagnostic `json:"diagnostics,omitempty"`

	// Of a door that did not open: the number of tries, and the time they took.
	Tries        int   `json:"tries,omitempty"`
	Milliseconds int64 `json:"milliseconds,omitempty"`

	Gist     string `json:"-"` // the message without numbers, if it has any
	Quiet    bool   `json:"-"` // a person has read all of it already
	Answered bool   `json:"-"` // and so has a program
	Err      error  `json:"-"`
}

func (f *Failure) Error() string { return f.Message }
func (f *Failure) Unwrap() error { return f.Err }

// A UsageError is a command line that is wrong.
type UsageError struct {
	Err   error
	Cmd   *cobra.Command
	Quiet bool // the help has been shown
}

func (e *UsageError) Error() string { return e.Err.Error() }

// Explain returns any error as a failure, with its exit code and hints.
func Explain(err error) *Failure {
	var (
		f           *Failure
		usage       *UsageError
		invalid     *policy.InvalidError
		beyond      *firewall.InexpressibleError
		permission  *firewall.PermissionError
		unsupported *firewall.UnsupportedError
		busy        *firewall.BusyError
		leftover    *backends.LeftoverError
		unavailable *lab.UnavailableError
		locked      *change.LockedError
		ping        *knocker.PingError
		family      *knocker.FamilyError
		shut        *client.ShutError
		hinted      interface{ Hints() []string }
		unfit       *handout.UnsupportedError
	)
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &usage):
		if usage.Quiet {
			return &Failure{Code: CodeUsage, Message: sayNoVerb, Quiet: true}
		}
		return &Failure{Code: CodeUsage, Message: usage.Error(), Hints: []string{seeHelp(usage.Cmd.CommandPath())}}
	case errors.As(err, &leftover):
		return &Failure{Code: CodeFailed, Message: err.Error(), Hints: []string{hintLeftover}, Err: err}
	case errors.As(err, &invalid):
		// What came of it is said before.
		before, _ := strings.CutSuffix(err.Error(), invalid.Error())
		if strings.Contains(before, "\n") || before == err.Error() {
			before = ""
		}
		return &Failure{Code: CodePolicy, Message: before + sayInvalid(invalid), Diagnostics: invalid.Diagnostics}
	case errors.As(err, &beyond):
		return &Failure{Code: CodePolicy, Message: sayBeyond(beyond), Diagnostics: beyond.Diagnostics}
	case errors.As(err, &unfit):
		return &Failure{Code: CodeFailed, Message: err.Error(), Hints: []string{unfit.Hint}}
	case errors.As(err, &permission):
		return &Failure{Code: CodePrivilege, Message: err.Error(), Hints: []string{hintPrivilege(permission.Capability())}}
	case errors.As(err, &unsupported):
		return &Failure{Code: CodeUnsupported, Message: err.Error(), Hints: []string{unsupported.Hint}}
	case errors.As(err, &unavailable):
		return &Failure{Code: CodeUnsupported, Message: sayUnavailable(unavailable), Hints: []string{unavailable.Remedy}}
	case errors.As(err, &locked):
		return &Failure{Code: CodeFailed, Message: err.Error(), Hints: []string{hintLocked}}
	case errors.As(err, &ping):
		return &Failure{Code: CodePrivilege, Message: err.Error(), Hints: []string{hintPing}}
	case errors.As(err, &family):
		return &Failure{Code: CodeFailed, Message: err.Error(), Hints: anyFamily(family)}
	case errors.As(err, &busy):
		return &Failure{Code: CodeFailed, Message: err.Error(), Hints: []string{hintBusy}}
	}
	f = &Failure{Code: codeOf(err), Message: err.Error(), Err: err}
	if errors.As(err, &hinted) {
		f.Hints = hinted.Hints()
	}
	if errors.As(err, &shut) {
		f.Tries, f.Milliseconds, f.Gist = shut.Effort.Tries, shut.Milliseconds, shut.Gist()
	}
	return f
}

// codeOf returns the exit code for an error without a case of its own in Explain.
func codeOf(err error) int {
	shut, _ := errors.AsType[*client.ShutError](err)
	listen, _ := errors.AsType[*client.ListenError](err)
	receiver, _ := errors.AsType[*client.NoReceiverError](err)
	ssh, _ := errors.AsType[*client.NoSSHError](err)
	host, _ := errors.AsType[*hosts.NotFoundError](err)
	enrolling, _ := errors.AsType[*enroll.Error](err)
	file, _ := errors.AsType[*fs.PathError](err) // not what sockets say: EPERM may be a firewall's
	switch {
	case shut != nil && !shut.Unsent():
		return CodeShut
	case listen != nil && listen.Privilege():
		return CodePrivilege
	case receiver != nil, host != nil, enrolling != nil && enrolling.Usage:
		return CodeUsage
	case ssh != nil:
		return CodeUnsupported
	case file != nil && errors.Is(file, fs.ErrPermission):
		return CodePrivilege
	}
	return CodeFailed
}

func Interrupted() *Failure {
	return &Failure{Code: CodeInterrupted, Message: SayInterrupted}
}

// Bug returns a panic as a failure, with the place in our code that it came from.
func Bug(value any) *Failure {
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
	return &Failure{Code: CodeFailed, Message: sayBug(value, place), Hints: []string{hintBug}}
}
