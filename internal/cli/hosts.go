package cli

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/rewrite"
)

// Whether the knocks themselves are shown, or how many they are.
type secrecy int

const (
	counted secrecy = iota
	disclosed
)

func (s *session) hostsCommand() *cobra.Command {
	var secrets bool
	cmd := &cobra.Command{
		Use:     "hosts",
		Short:   shortHosts,
		Long:    longHosts,
		Example: exampleHosts,
		Args:    exactly(0),
		RunE: func(*cobra.Command, []string) error {
			if secrets {
				return s.listHosts(disclosed)
			}
			return s.listHosts(counted)
		},
	}
	cmd.Flags().BoolVar(&secrets, "secrets", false, flagSecrets)
	ui.WithoutPolicy(cmd)
	return cmd
}

// listing is the answer of hosts to programs.
type listing struct {
	File     string      `json:"file"`
	Hosts    []hostJSON  `json:"hosts"`
	Warnings []ui.Remark `json:"warnings"`
}

// hostJSON is an entry of the hosts file.
type hostJSON struct {
	Name        string   `json:"name"`
	Address     string   `json:"address"`
	Service     string   `json:"service"`
	Knocks      int      `json:"knocks"`
	Sequence    []string `json:"sequence,omitempty"`
	StepTimeout string   `json:"step_timeout"`
	Gap         string   `json:"gap,omitempty"`
	Timeout     string   `json:"timeout"`
	Family      int      `json:"family,omitempty"`
	User        string   `json:"user,omitempty"`
}

func asJSON(h *hosts.Host, show secrecy) hostJSON {
	j := hostJSON{
		Name: h.Name, Address: h.Address, Service: h.Service.String(), Knocks: len(h.Knock),
		StepTimeout: document.FormatDuration(h.StepTimeout), Timeout: document.FormatDuration(h.Timeout),
		Family: int(h.Family), User: h.User,
	}
	if h.Gap != 0 {
		j.Gap = document.FormatDuration(h.Gap)
	}
	if show == disclosed {
		for _, p := range h.Knock {
			j.Sequence = append(j.Sequence, p.String())
		}
	}
	return j
}

func (s *session) listHosts(show secrecy) error {
	path, file, err := s.hostsFile()
	if err != nil {
		return err
	}
	if s.JSON {
		answer := listing{File: path, Hosts: []hostJSON{}, Warnings: s.Remarks}
		for i := range file.Hosts {
			answer.Hosts = append(answer.Hosts, asJSON(&file.Hosts[i], show))
		}
		return s.Answer(answer)
	}
	if len(file.Hosts) == 0 {
		s.sayNoHosts(path)
		return nil
	}
	rows := ui.Table{headHosts}
	for i := range file.Hosts {
		rows = append(rows, hostRow(&file.Hosts[i], show))
	}
	var b strings.Builder
	rows.Write(&b, s.OutTTY)
	_, err = s.Out.Write([]byte(b.String()))
	return err
}

// readHosts reads this user's hosts file.
func readHosts() (path string, file *hosts.File, err error) {
	if path, err = hosts.Path(); err != nil {
		return "", nil, noHome(err)
	}
	if file, err = hosts.Read(path); err != nil {
		return path, nil, hostsTrouble(sayHostsUnread, path, err)
	}
	return path, file, nil
}

// hostsFile reads this user's hosts file, and warns if others can.
func (s *session) hostsFile() (path string, file *hosts.File, err error) {
	path, file, err = readHosts()
	if err == nil && file.Exposed {
		s.Warn(exposed(path))
	}
	return path, file, err
}

// host gives the host of that name.
func (s *session) host(name string) (*hosts.Host, error) {
	h, _, err := s.hostAmong(name)
	return h, err
}

// hostAmong gives the host of that name, and the file that has it.
func (s *session) hostAmong(name string) (*hosts.Host, *hosts.File, error) {
	path, file, err := s.hostsFile()
	if err != nil {
		return nil, nil, err
	}
	if h := file.Find(name); h != nil {
		return h, file, nil
	}
	return nil, nil, noSuchHost(name, path, file.Nearest(name))
}

// hostsTrouble explains why the hosts file cannot be read or written. What is wrong
// inside it explains itself.
func hostsTrouble(say func(path string, err error) string, path string, err error) error {
	if _, ok := errors.AsType[*document.InvalidError](err); ok {
		return err
	}
	f := &ui.Failure{Code: ui.CodeFailed, Err: err}
	// The path is named once, by us.
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	if place, ok := errors.AsType[*rewrite.NotRegularError](err); ok {
		err = oddPlace(place)
		f.Hints = []string{hintMoveHosts}
	}
	f.Message = say(path, err)
	if errors.Is(err, fs.ErrPermission) {
		f.Hints = []string{hintHostsOwner}
	}
	return f
}
