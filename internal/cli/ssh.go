package cli

import (
	"errors"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
	"postern/internal/sshconfig"
)

func (s *session) sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "ssh NAME [ssh's own arguments]",
		Short:             shortSSH,
		Long:              longSSH,
		Example:           exampleSSH,
		ValidArgsFunction: completeSSH,
		// The flags are ssh's.
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			s.JSON = false // it is the other side's --json, if anybody's
			if ours := firstFlag(s.args, cmd.Name()); ours != "" {
				return &ui.UsageError{Err: wrongPlace(ours, cmd.Name()), Cmd: cmd}
			}
			if len(args) > 0 && (args[0] == "--help" || args[0] == "-h") {
				return cmd.Help()
			}
			return s.ssh(cmd, args)
		},
	}
	ui.WithoutAny(cmd)
	return cmd
}

// ssh replaces this process by ssh, with the way through the door before its own
// arguments.
func (s *session) ssh(cmd *cobra.Command, args []string) error {
	line, err := sshconfig.ParseCommandLine(args)
	switch {
	case err != nil:
		return &ui.UsageError{Err: err, Cmd: cmd}
	case line.IsQuery():
		return runSSH(args)
	case line.Destination == "":
		return &ui.UsageError{Err: errors.New(sayWhichHost), Cmd: cmd}
	}
	h, err := s.host(line.Host())
	if err != nil {
		return err
	}
	// What connect says, as ssh itself does: all, errors only, or enough for a person
	// who waits.
	talk := []string{"--brief"}
	switch {
	case line.Verbose():
		talk = nil
	case line.Quiet():
		talk = []string{"-q"}
	}
	way, err := client.ThroughDoor(h, talk...)
	if err != nil {
		return err
	}
	if c := way.Conflict(line); c != nil {
		return clashes(h, c, remedy(h, c.Option))
	}
	return runSSH(append(way.Arguments(line), args...))
}

// runSSH ends as ssh does.
func runSSH(args []string) error {
	err := client.RunSSH(args)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return &ui.Failure{Code: exit.ExitCode(), Quiet: true, Err: err}
	}
	return err
}

// completeSSH completes the destination, with the user before it if there is one.
// What follows it is ssh's.
func completeSSH(_ *cobra.Command, args []string, text string) ([]cobra.Completion, cobra.ShellCompDirective) {
	line, err := sshconfig.ParseCommandLine(args)
	if err != nil || line.Destination != "" || strings.HasPrefix(text, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return savedHosts(text[:strings.LastIndexByte(text, '@')+1]), cobra.ShellCompDirectiveNoFileComp
}

// firstFlag returns the flag that a command line begins with, before the verb: it is
// one of ours, even if the verb's flags are another program's.
func firstFlag(line []string, verb string) string {
	if len(line) == 0 || line[0] == verb || !strings.HasPrefix(line[0], "-") {
		return ""
	}
	flag, _, _ := strings.Cut(line[0], "=")
	switch {
	case flag == "-h", flag == "--help":
		return ""
	case strings.HasPrefix(flag, "-f"):
		return "--file"
	}
	return flag
}

// remedy returns the flags of add that save what an option of ssh says; "" if it
// cannot be saved.
func remedy(h *hosts.Host, o sshconfig.Option) string {
	key, text := "", o.Value
	switch strings.ToLower(o.Name) {
	case "port":
		key = hosts.KeyPort
	case "hostname":
		key = hosts.KeyAddress
	case "addressfamily":
		key, text = hosts.KeyFamily, map[string]string{"inet": "4", "inet6": "6"}[strings.ToLower(text)]
	}
	changed := *h
	if f := changed.Set(key, text); f != nil {
		return ""
	}
	if _, f := changed.Check(); f != nil {
		return ""
	}
	return "--" + flagOf(key) + " " + text
}
