// Package cli is the command line of postern.
//
// A verb is in the file of its name (up.go, down.go, …) and does little but call
// the packages below internal/. Every word that a person reads comes from
// voice.go and the *_text.go, and what went wrong is made an exit code in failure.go.
package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A session is one run of the program: what it reads from, speaks to and acts on.
type session struct {
	voice
	stdin    io.Reader
	backends []backend // the first one is used unless another is asked for
	file     string    // the policy file
	args     []string  // as they were given
}

// Main runs the program with the arguments it was called with, and returns its
// exit code.
func Main() int {
	s := &session{voice: newVoice(os.Stdout, os.Stderr), stdin: os.Stdin, backends: backends()}
	return s.run(os.Args[1:])
}

// run does what the arguments ask for, and gives the exit code.
func (s *session) run(args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			code = s.fail(bug(r))
		}
	}()
	ctx, stop := interruptible(func() { os.Exit(s.fail(interrupted())) })
	defer stop()

	s.args = args
	root := s.root()
	root.SetArgs(args)
	s.json = slices.Contains(args, "--json") // also where the arguments cannot be parsed
	err := root.ExecuteContext(ctx)
	told, ok := errors.AsType[*failure](err)
	switch {
	case err == nil:
		return codeDone
	case ctx.Err() != nil && !(ok && told.answered):
		return s.fail(interrupted())
	}
	return s.fail(explain(err))
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
				if cmd.Annotations[without+flag] != "" && cmd.Flags().Changed(flag) {
					return &usageError{err: wrongPlace("--"+flag, cmd.Name()), cmd: cmd}
				}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			help(cmd, s.err)
			return &usageError{quiet: true}
		},
	}
	root.PersistentFlags().StringVarP(&s.file, "file", "f", defaultFile, flagFile)
	root.PersistentFlags().BoolVar(&s.json, "json", false, flagJSON)
	root.PersistentFlags().BoolP("help", "h", false, flagHelp)
	root.Flags().Bool("version", false, flagVersion)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { help(cmd, s.out) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { help(cmd, s.err); return nil })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if wrong, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			err = wrongFlag(wrong.GetFlag().Name, wrong.GetValue(), wrong.Unwrap())
		}
		return &usageError{err: err, cmd: cmd}
	})
	root.SetHelpCommand(s.helpCommand())
	root.AddCommand(s.upCommand(), s.downCommand(), s.statusCommand(), s.showCommand(), s.checkCommand(),
		s.knockCommand(), s.connectCommand(), s.sshCommand(), s.sshConfigCommand(), s.forwardCommand(),
		s.hostsCommand(), s.addCommand(), s.shareCommand(), s.importCommand(), demoCommand())
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.Short = shortCompletion
			withoutAny(cmd)
			for _, shell := range cmd.Commands() {
				withoutAny(shell)
			}
		}
	}
	return root
}

// without marks a verb that has no use for a flag that the others share.
const without = "without "

func withoutPolicy(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{without + "file": "yes"}
}

func withoutAny(cmd *cobra.Command) {
	cmd.Annotations = map[string]string{without + "file": "yes", without + "json": "yes"}
}

// knownVerb refuses what is no verb.
func (s *session) knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return &usageError{err: unknownVerb(args[0], cmd.SuggestionsFor(args[0])), cmd: cmd}
}

// exactly takes so many arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &usageError{err: surplus(args[n]), cmd: cmd}
		}
		return nil
	}
}

func (s *session) helpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [VERB]",
		Short: shortHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &usageError{err: unknownVerb(args[len(args)-1], nil), cmd: cmd.Root()}
			}
			help(found, s.out)
			return nil
		},
	}
	withoutAny(cmd)
	return cmd
}
