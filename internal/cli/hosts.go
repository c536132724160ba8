package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
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
				return s.listHosts(hosts.Disclosed)
			}
			return s.listHosts(hosts.Counted)
		},
	}
	cmd.Flags().BoolVar(&secrets, "secrets", false, flagSecrets)
	ui.WithoutPolicy(cmd)
	return cmd
}

// listing is the answer of hosts to programs.
type listing struct {
	File     string       `json:"file"`
	Hosts    []hosts.JSON `json:"hosts"`
	Warnings []ui.Remark  `json:"warnings"`
}

func (s *session) listHosts(show hosts.Secrecy) error {
	file, err := s.hostsFile()
	if err != nil {
		return err
	}
	if s.JSON {
		answer := listing{File: file.Path, Hosts: []hosts.JSON{}, Warnings: s.Remarks}
		for i := range file.Hosts {
			answer.Hosts = append(answer.Hosts, file.Hosts[i].JSON(show))
		}
		return s.Answer(answer)
	}
	if len(file.Hosts) == 0 {
		s.sayNoHosts(file.Path)
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
