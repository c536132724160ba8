package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/policy"
	"postern/internal/sshconfig"
)

func (s *session) sshCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "ssh NAME [ssh's own arguments]",
		Short:   shortSSH,
		Long:    longSSH,
		Example: exampleSSH,
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

// ssh runs ssh in our place, with the way through the door before its arguments.
func (s *session) ssh(cmd *cobra.Command, args []string) error {
	line, err := sshconfig.ParseCommandLine(args)
	switch {
	case err != nil:
		return &ui.UsageError{Err: err, Cmd: cmd}
	case line.IsQuery():
		return runSSH(args)
	case line.Destination == "":
		return &ui.UsageError{Err: errors.New(sayNobodyToReach), Cmd: cmd}
	}
	h, err := s.host(line.Host())
	if err != nil {
		return err
	}
	way, err := wayOfSSH(h)
	if err != nil {
		return err
	}
	if c := way.Conflict(line); c != nil {
		return clashes(h, c, remedy(h, c.Option))
	}
	if line.Verbose() {
		way.Command = proxyCommand(h)
	}
	return runSSH(append(way.Arguments(line), args...))
}

// runSSH runs ssh in our place.
func runSSH(args []string) error {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return noSSH(err)
	}
	return become(program, append([]string{"ssh"}, args...))
}

// firstFlag gives the flag that a command line begins with, before the verb: one of ours,
// even where the verb's flags are another program's.
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

// remedy gives the flags by which the hosts file comes to say what an option of ssh's
// does; or "", if it cannot.
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

// wayOfSSH is how ssh comes to a host. Where all goes well it does not hear of us.
func wayOfSSH(h *hosts.Host) (*sshconfig.Host, error) {
	if h.Service.Protocol != policy.TCP {
		return nil, notSSH(h)
	}
	way := &sshconfig.Host{Name: h.Name, Address: h.Address, Port: h.Service.Number, User: h.User, Command: proxyCommand(h, "-q")}
	if canPassSocket {
		way.Mode = sshconfig.PassFD
	}
	return way, nil
}

// proxyCommand is what ssh is to run.
func proxyCommand(h *hosts.Host, flags ...string) string {
	words := append([]string{ownName(), "connect", h.Name}, flags...)
	if canPassSocket {
		words = append(words, "--fdpass")
	}
	return sshconfig.Quote(words...)
}

// ownName is how this very program is called. Where PATH leads to it, the word alone
// is the best name, as it outlives a move; and otherwise the path that it
// was called by is better than where links lead from there, to a folder named after
// the version, say. Some of Windows' ssh look into no PATH.
func ownName() string {
	own, err := os.Executable()
	if err != nil {
		return "postern"
	}
	name := "postern"
	if found, err := exec.LookPath(name); err == nil && runtime.GOOS != "windows" && sameFile(found, own) {
		return name
	}
	if called, err := filepath.Abs(os.Args[0]); err == nil && strings.ContainsRune(os.Args[0], filepath.Separator) && sameFile(called, own) {
		return called
	}
	return own
}

func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
