// Package cli is the command line of postern.
//
// A verb is in the file of its name: up.go has the command, up_text.go its words,
// and up_linux.go, if there is one, what takes a Linux kernel. It does little but
// call other packages. root.go puts the verbs together, session.go is what a run
// of any verb has, and package ui is how they speak.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
	"postern/internal/secrecy"
)

// Main runs the program with the arguments it was called with, and returns its
// exit code.
func Main() int {
	s := &session{Voice: ui.NewVoice(os.Stdout, os.Stderr), stdin: os.Stdin, backends: backends.All(), alone: true}
	return s.run(secrecy.Arguments(os.Args[1:], "knock", "add"))
}

// Command returns the command line, for its manual and its completions. Its verbs
// print to out.
func Command(out io.Writer) *cobra.Command {
	s := &session{Voice: ui.Voice{Out: out, Err: io.Discard}, backends: backends.All()}
	return s.rootCommand()
}

// run does what the arguments ask for, and returns the exit code.
func (s *session) run(args []string) (code int) {
	defer func() {
		if r := recover(); r != nil {
			code = s.Fail(ui.Bug(r))
		}
	}()
	ctx, stop := interruptible(func() { os.Exit(s.Fail(ui.Interrupted())) })
	defer stop()

	s.args = args
	root := s.rootCommand()
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

// interruptible returns a context that ends with Ctrl-C. A verb that does not
// notice (it may be reading from a terminal) is ended by giveUp two seconds later,
// or at the second Ctrl-C. That leaves nothing half done: the kernel changes rules
// as a whole.
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

// rootCommand returns the command line: a new verb is one line here.
func (s *session) rootCommand() *cobra.Command {
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
			if cmd.Annotations[needsKernel] != "" && !backends.Load {
				return unsupportedHere(cmd.Name())
			}
			if s.alone && cmd.Name() != "demo" { // which maps ids of a user namespace, and knows no secret
				secrecy.NoDump()
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
	root.AddCommand(
		inKernel(s.initCommand()),
		inKernel(s.upCommand()),
		inKernel(s.downCommand()),
		inKernel(s.confirmCommand()),
		inKernel(s.rollbackCommand()),
		inKernel(s.statusCommand()),
		inKernel(s.grantCommand()),
		inKernel(s.revokeCommand()),
		inKernel(s.watchdogCommand()),
		inKernel(s.installCommand()),
		inKernel(s.uninstallCommand()),
		s.showCommand(),
		s.checkCommand(),
		inKernel(s.doctorCommand()),
		s.knockCommand(), s.closeCommand(),
		s.connectCommand(),
		s.sshCommand(),
		s.sshConfigCommand(),
		s.forwardCommand(),
		s.hostsCommand(),
		s.addCommand(),
		s.removeCommand(),
		s.shareCommand(),
		s.userCommand(),
		s.importCommand(),
		inKernel(demoCommand()),
		s.completionCommand(),
	)
	return root
}

// needsKernel marks a verb that does its work in the kernel of a 64-bit Linux.
// Other systems have the verb, too: to say so.
const needsKernel = "needs a Linux kernel"

func inKernel(cmd *cobra.Command) *cobra.Command {
	if cmd.Annotations == nil {
		cmd.Annotations = map[string]string{}
	}
	cmd.Annotations[needsKernel] = "yes"
	return cmd
}

// knownVerb refuses an argument that is not a verb.
func (s *session) knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = 2
	return &ui.UsageError{Err: unknownVerb(args[0], cmd.SuggestionsFor(args[0])), Cmd: cmd}
}

// exactly refuses more than n arguments.
func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return &ui.UsageError{Err: surplus(args[n]), Cmd: cmd}
		}
		return nil
	}
}

// release is the version of a program that packaging has built.
var release string

// version returns the version that this program was built as: a release, or the
// tag of its commit, or what the go command derives from the last one
// (v1.2.1-0.DATE-COMMIT, with +dirty if files had been changed). A program that was
// built outside a checkout has none.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return sayNoVersion
	}
	version := cmp.Or(release, info.Main.Version)
	if version == "" || version == "(devel)" {
		version = sayNoVersion
	}
	return fmt.Sprintf("%s (%s %s/%s)", version, info.GoVersion, runtime.GOOS, runtime.GOARCH)
}
