package cli

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
)

func (s *session) forwardCommand() *cobra.Command {
	timeout := ui.Duration{Unit: time.Second, Min: 1, Max: hosts.MaxTimeout}
	var quiet bool
	cmd := &cobra.Command{
		Use:               "forward NAME LOCAL...",
		Short:             shortForward,
		Long:              longForward,
		Example:           exampleForward,
		ValidArgsFunction: completeHost,
		Args: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return &ui.UsageError{Err: errors.New(sayWhichHost), Cmd: cmd}
			case 1:
				return &ui.UsageError{Err: errors.New(sayNoLocal), Cmd: cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.AnswerLines(s.Out, func() error {
				h, err := s.host(args[0])
				if err != nil {
					return nameFirst(args, err)
				}
				if timeout.Value != 0 {
					h.Timeout = timeout.Value
				}
				locals, err := client.ParseLocals(args[1:], h)
				if _, ok := errors.AsType[*client.NotTCPError](err); err != nil && !ok {
					err = &ui.UsageError{Err: err, Cmd: cmd}
				}
				if err != nil {
					return err
				}
				f := &forwardTalk{session: s, host: h, quiet: quiet}
				if err := client.NewForwarder(h, f.tell).Run(cmd.Context(), locals); err != nil {
					return err
				}
				if s.JSON {
					s.Line(s.Out, event{Event: "ended"})
				}
				// A person has ended it, and needs no word of it.
				return &ui.Failure{Code: ui.CodeInterrupted, Message: ui.SayInterrupted, Quiet: true, Answered: true}
			})
		},
	}
	cmd.Flags().Var(&timeout, "timeout", flagPatience)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, flagQuiet)
	ui.WithoutPolicy(cmd)
	return cmd
}

// nameFirst adds to an error that the host comes first, if that is what is wrong.
func nameFirst(args []string, err error) error {
	missing, ok := errors.AsType[*hosts.NotFoundError](err)
	if !ok || missing.File.Find(args[1]) == nil {
		return err
	}
	f := ui.Explain(err)
	f.Hints = []string{hintNameFirst(args[0], args[1])}
	return f
}

// A forwardTalk says what a forwarder reports.
type forwardTalk struct {
	*session
	host  *hosts.Host
	quiet bool

	hints  []string  // said last
	gist   string    // of the error that was said last
	shutAt time.Time // when one was last said
}

// An event is a line for programs.
type event struct {
	Event      string   `json:"event"`
	Connection int64    `json:"connection,omitempty"`
	From       string   `json:"from,omitempty"`
	To         string   `json:"to,omitempty"`
	Addresses  []string `json:"addresses,omitempty"`
	*client.Opened
	*transfer
	Error    *ui.Failure `json:"error,omitempty"`
	Warnings []ui.Remark `json:"warnings,omitempty"`
}

type transfer struct {
	Sent     int64 `json:"sent"`
	Received int64 `json:"received"`
}

// tell says what has happened, to a person or to a program.
func (f *forwardTalk) tell(e client.Event) {
	if f.JSON {
		f.tellProgram(e)
		return
	}
	switch e.Kind {
	case client.Listening:
		if !f.quiet {
			f.sayListening(f.host, e)
		}
		f.Warn(f.listenWarnings(e)...)
	case client.Slow:
		if !f.quiet && !f.inBurst(e) {
			f.Say("%s: %s", e.From, stillKnocking(cmp.Or(e.To.Host, f.host.Name), f.host, e.Seen))
		}
	case client.Connected:
		if !f.quiet {
			f.sayConnected(e)
		}
	case client.Shut:
		f.tellShut(e, ui.Explain(e.Err))
	case client.Gone:
		if !f.quiet {
			f.sayGone(e.From)
		}
	case client.Closed:
		if e.Err != nil { // to a person the end of a connection is no news
			f.Fail(about(e.From, ui.Explain(e.Err)))
		}
	}
}

func (f *forwardTalk) tellProgram(e client.Event) {
	line := event{Event: string(e.Kind), Connection: e.Connection, From: e.From}
	switch e.Kind {
	case client.Slow:
		return
	case client.Listening:
		line.To, line.Addresses = e.To.HostPort(f.host), e.Addresses
		line.Warnings = append(f.listenWarnings(e), f.Remarks...)
	case client.Connected:
		line.Opened = e.Opened
	case client.Shut:
		line.To = e.To.HostPort(f.host)
	case client.Closed:
		line.transfer = &transfer{e.Sent, e.Received}
	}
	if e.Err != nil {
		line.Error = ui.Explain(e.Err)
	}
	f.Line(f.Out, line)
}

func (f *forwardTalk) listenWarnings(e client.Event) []ui.Remark {
	if !e.Local.Bind.Exposed() {
		return nil
	}
	return []ui.Remark{exposedListener(f.host, e.Addresses)}
}

// tellShut says that a door did not open: once for all connections of a burst, and
// the hints only if they are new.
func (f *forwardTalk) tellShut(e client.Event, why *ui.Failure) {
	gist, again := cmp.Or(why.Gist, why.Message), f.inBurst(e)
	f.shutAt = time.Now()
	if again && gist == f.gist {
		return
	}
	f.gist = gist
	said := about(e.From, why)
	if slices.Equal(f.hints, said.Hints) {
		said.Hints = nil
	} else {
		f.hints = said.Hints
	}
	f.Fail(said)
}

// burst is how soon after a shut door a program tries its next address, or the same
// one again.
const burst = time.Second

// inBurst reports whether a connection belongs to the burst that the last error was
// said about.
func (f *forwardTalk) inBurst(e client.Event) bool { return e.Since.Before(f.shutAt.Add(burst)) }
