package cli

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/hosts"
	"postern/internal/keyfile"
	"postern/internal/policy"
)

// A session is one run of the program: what it reads, speaks to and acts on.
type session struct {
	ui.Voice
	stdin    io.Reader
	backends []firewall.Backend // the first one is used unless another is asked for
	file     string             // the policy file
	args     []string           // as they were given
	alone    bool               // it is all that this process does
}

// defaultFile is the place of a host's policy.
const defaultFile = "/etc/postern/policy.yaml"

// machine reads and compiles the policy, for a backend.
func (s *session) machine(b firewall.Backend) (*automaton.Machine, error) {
	p, err := s.policy()
	if err != nil {
		return nil, err
	}
	m, err := b.Machine(p)
	if err == nil {
		m.Keys = change.KeysIn(s.keysFile())
	}
	return m, err
}

// keysFile returns where the keys of the policy file's users are.
func (s *session) keysFile() string {
	file := keyfile.Path(s.file)
	if path, err := filepath.Abs(file); err == nil {
		file = path
	}
	return file
}

// machineFor is machine for a backend, or, where that is nil, for the one that "up"
// would use, which it returns as well.
func (s *session) machineFor(b firewall.Backend, survey backends.Survey) (*automaton.Machine, firewall.Backend, error) {
	p, err := s.policy()
	if err != nil {
		return nil, nil, err
	}
	if b == nil {
		b = survey.For(p)
	}
	m, err := b.Machine(p)
	if err == nil {
		m.Keys = change.KeysIn(s.keysFile())
	}
	return m, b, err
}

// policy reads the policy.
func (s *session) policy() (*policy.Policy, error) {
	p, _, err := s.policyFile()
	return p, err
}

// policyFile reads the policy, and returns its text as well.
func (s *session) policyFile() (*policy.Policy, []byte, error) {
	name, from := s.file, s.stdin
	if name == "-" {
		name = "stdin"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return nil, nil, unreadable(name, err)
		}
		defer f.Close()
		from = f
	}
	// One byte more than a policy may have, for Parse to see that it is too
	// long: FILE may be a device that never ends.
	text, err := io.ReadAll(io.LimitReader(from, policy.MaxSize+1))
	if err != nil {
		return nil, nil, unreadable(name, err)
	}
	p, err := policy.Parse(name, text)
	return p, text, err
}

// begin takes the right to change the rules of this host.
func (s *session) begin(ctx context.Context) (*change.Change, error) {
	c, err := change.Here().Begin(ctx, func(holder int) { s.Say("%s", waitingFor(holder)) })
	if c == nil {
		return nil, err
	}
	if err != nil && (c.Missing() == nil || !errors.Is(err, fs.ErrPermission)) { // else Missing says it
		s.Warn(keptUnread(err))
	}
	return c, nil
}

// services returns the names of what a door opens.
func services(m *automaton.Machine, d *automaton.Door) []string {
	var names []string
	for _, i := range d.Services {
		names = append(names, m.Services[i].String())
	}
	return names
}

// unreadable explains why a policy file could not be read.
func unreadable(file string, err error) *ui.Failure {
	// The path is named once, by us.
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	f := &ui.Failure{Code: ui.CodeFailed, Message: sayUnreadable(file, err), Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Hints = []string{hintNoPolicy}
	case errors.Is(err, fs.ErrPermission):
		f.Code, f.Hints = ui.CodePrivilege, []string{hintReadPolicy}
	}
	return f
}

// backendFlag lets a verb choose the backend.
func (s *session) backendFlag(cmd *cobra.Command) *string {
	names := backends.Names(s.backends)
	name := cmd.Flags().String("backend", "", flagBackend(names))
	cmd.RegisterFlagCompletionFunc("backend", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return name
}

// named returns the backend of a name; nil for no name, which lets the host decide.
func (s *session) named(name string, cmd *cobra.Command) (firewall.Backend, error) {
	if name == "" {
		return nil, nil
	}
	names := backends.Names(s.backends)
	if i := slices.Index(names, name); i >= 0 {
		return s.backends[i], nil
	}
	return nil, &ui.UsageError{Err: unknownBackend(name, names), Cmd: cmd}
}

// hostsFile reads this user's hosts file, and warns if others can read it.
func (s *session) hostsFile() (*hosts.File, error) {
	file, err := hosts.Own()
	if err == nil && file.Exposed {
		s.Warn(exposed(file.Path))
	}
	return file, err
}

// host returns the saved host of that name.
func (s *session) host(name string) (*hosts.Host, error) {
	file, err := s.hostsFile()
	if err != nil {
		return nil, err
	}
	return file.Get(name)
}

// oneHost accepts the name of a saved host, and nothing else.
func oneHost(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return &ui.UsageError{Err: errors.New(sayWhichHost), Cmd: cmd}
	}
	return exactly(1)(cmd, args)
}

// completeHost completes the first argument with the names of saved hosts.
func completeHost(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return savedHosts(""), cobra.ShellCompDirectiveNoFileComp
}

// savedHosts returns the names of saved hosts after a prefix, and where they are.
// Completion says nothing of what is wrong.
func savedHosts(prefix string) []cobra.Completion {
	file, err := hosts.Own()
	if err != nil {
		return nil
	}
	var all []cobra.Completion
	for i := range file.Hosts {
		h := &file.Hosts[i]
		all = append(all, cobra.CompletionWithDesc(prefix+h.Name, h.Service.String()+" of "+h.Address))
	}
	return all
}

// completeDoor completes the name of a door of the policy file.
func (s *session) completeDoor(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var all []cobra.Completion
	for _, d := range s.policyDoors() {
		var services []string
		for _, port := range d.Services {
			services = append(services, port.String())
		}
		all = append(all, cobra.CompletionWithDesc(d.Name, ui.List(services)))
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

// policyDoors returns the doors of the policy file for completion, which must not
// wait for standard input.
func (s *session) policyDoors() []policy.Door {
	if s.file == "-" {
		return nil
	}
	p, err := s.policy()
	if err != nil {
		return nil
	}
	return p.Doors
}
