package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
	"postern/internal/rewrite"
	"postern/internal/sshconfig"
)

func (s *session) sshConfigCommand() *cobra.Command {
	var install bool
	cmd := &cobra.Command{
		Use:               "ssh-config NAME",
		Short:             shortSSHConfig,
		Long:              longSSHConfig,
		Example:           exampleSSHConfig,
		Args:              oneHost,
		ValidArgsFunction: completeHost,
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := s.hostsFile()
			if err != nil {
				return err
			}
			h, err := file.Get(args[0])
			if err != nil {
				return err
			}
			way, err := client.ThroughDoor(h, "--brief")
			if err != nil {
				return err
			}
			way.ByAddress = file.Find(h.Address) == nil
			if install {
				return s.installInSSH(way, file)
			}
			if s.JSON {
				return s.Answer(sshBlock{Host: way.Name, Block: way.Block(), Warnings: s.Remarks})
			}
			_, err = fmt.Fprint(s.Out, way.Block())
			return err
		},
	}
	cmd.Flags().BoolVar(&install, "install", false, flagInstall)
	ui.WithoutPolicy(cmd)
	return cmd
}

// sshBlock is the answer of ssh-config to programs. Where nothing was to be
// installed, there are no files.
type sshBlock struct {
	Host     string      `json:"host"`
	Block    string      `json:"block"`
	File     string      `json:"file,omitempty"`
	Config   string      `json:"config,omitempty"`
	Changed  *bool       `json:"changed,omitempty"`
	Warnings []ui.Remark `json:"warnings"`
}

// installInSSH adds the host to the configuration of ssh.
func (s *session) installInSSH(way *sshconfig.Host, saved *hosts.File) error {
	folder, err := sshconfig.Dir()
	if err != nil {
		return noSSHFolder(err)
	}
	done, err := sshconfig.Install(folder, way)
	if err != nil {
		return notInstalled(folder, err)
	}
	if done.OtherBlock > 0 {
		s.Warn(rivalBlock(way.Name, done))
	}
	if done.AddressOf != "" {
		s.Warn(addressTaken(way, done))
	}
	for _, name := range done.Blocks {
		if saved.Find(name) == nil {
			s.Warn(leftBlock(name, done.File))
		}
	}
	if s.JSON {
		changed := done.Changed || done.Included
		return s.Answer(sshBlock{
			Host: way.Name, Block: way.Block(), File: done.File, Config: done.Config, Changed: &changed, Warnings: s.Remarks,
		})
	}
	s.sayInstalled(way.Name, done)
	return nil
}

// notInstalled explains why ssh's files cannot be changed. What each error is about
// it says itself.
func notInstalled(folder string, err error) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: sayNotInstalled(folder, err), Err: err}
	if _, ok := errors.AsType[*rewrite.BusyError](err); ok {
		f.Hints = []string{hintBusySSH}
	}
	if _, ok := errors.AsType[*rewrite.NotRegularError](err); ok {
		f.Hints = []string{hintMoveSSH}
	}
	if errors.Is(err, fs.ErrPermission) {
		f.Code, f.Hints = ui.CodePrivilege, []string{hintSSHOwner}
	}
	return f
}
