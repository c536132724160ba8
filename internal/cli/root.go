// Package cli is the command line of postern.
//
// A verb is in the file of its name (up.go, down.go, …) and does little but call
// the packages below internal/. Every word that a person reads comes from
// voice.go and the *_text.go, and what went wrong is made an exit code in failure.go.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

// A session is one run of the program: what it reads from, speaks to and acts on.
type session struct {
	ui.Voice
	stdin    io.Reader
	backends []firewall.Backend // the first one is used unless another is asked for
	file     string             // the policy file
	args     []string           // as they were given
}

// Main runs the program with the arguments it was called with, and returns its
// exit code.
func Main() int {
	s := &session{Voice: ui.NewVoice(os.Stdout, os.Stderr), stdin: os.Stdin, backends: backends.All()}
	return s.run(os.Args[1:])
}

// run does what the arguments ask for, and gives the exit code.
func (s *session) run(args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			code = s.Fail(ui.Bug(r))
		}
	}()
	ctx, stop := interruptible(func() { os.Exit(s.Fail(ui.Interrupted())) })
	defer stop()

	s.args = args
	root := s.root()
	root.SetArgs(args)
	s.JSON = slices.Contains(args, "--json") // also where the arguments cannot be parsed
	err := root.ExecuteContext(ctx)
	told, ok := errors.AsType[*ui.Failure](err)
	switch {
	case err == nil:
		return ui.CodeDone
	case ctx.Err() != nil && !(ok && told.Answered):
		return s.Fail(ui.Interrupted())
	}
	return s.Fail(ui.Explain(err))
}

// patience is how long a verb may take to end by itself after Ctrl-C.
const patience = 2 * time.Second

// interruptible gives a context that ends with Ctrl-C. What does not heed it (a
// read from a terminal, say) is given up soon after, or at the second Ctrl-C.
// Nothing is half done by that: the kernel changes rules as a whole.
func interruptible(giveUp func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals, done := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, os.Interrupt)
	go func() {
		select {
		case <-signals:
		case <-done:
			return
		}
		cancel()
		select {
		case <-signals:
		case <-time.After(patience):
		case <-done:
			return
		}
		giveUp()
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}

// root builds the command line.
func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "postern",
		Short:         shortRoot,
		Long:          longRoot,
		Version:       version(),
		Args:          s.knownVerb,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			for _, flag := range []string{"file", "json"} {
				if cmd.Annotations[ui.Without+flag] != "" && cmd.Flags().Changed(flag) {
					return &ui.UsageError{Err: wrongPlace("--"+flag, cmd.Name()), Cmd: cmd}
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ui.Help(cmd, s.Err)
			return &ui.UsageError{Quiet: true}
		},
	}
	root.PersistentFlags().StringVarP(&s.file, "file", "f", defaultFile, flagFile)
	root.PersistentFlags().BoolVar(&s.JSON, "json", false, flagJSON)
	root.PersistentFlags().BoolP("help", "h", false, flagHelp)
	root.Flags().Bool("version", false, flagVersion)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { ui.Help(cmd, s.Out) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { ui.Help(cmd, s.Err); return nil })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			err = wrongFlag(wrong.GetFlag().Name, wrong.GetValue(), wrong.Unwrap())
		}
		return &ui.UsageError{Err: err, Cmd: cmd}
	})
	root.SetHelpCommand(s.helpCommand())
	root.AddCommand(s.upCommand(), s.downCommand(), s.statusCommand(), s.showCommand(), s.checkCommand(),
		s.knockCommand(), s.connectCommand(), s.sshCommand(), s.sshConfigCommand(), s.forwardCommand(),
		s.hostsCommand(), s.addCommand(), s.shareCommand(), s.importCommand(), demoCommand())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Short = shortCompletion
			ui.WithoutAny(cmd)
			for _, shell := range cmd.Commands() {
				ui.WithoutAny(shell)
			}
		}
	}
	return root
}

// knownVerb refuses what is no verb.
func (s *session) knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return &ui.UsageError{Err: unknownVerb(args[0], cmd.SuggestionsFor(args[0])), Cmd: cmd}
}

// exactly takes so many arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &ui.UsageError{Err: surplus(args[n]), Cmd: cmd}
		}
		return nil
	}
}

// version tells which build this is.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (text == "" || text == "(devel)") {
			text = s.Value
		}
	}
	return fmt.Sprintf("%s (%s)", text, info.GoVersion)
}
