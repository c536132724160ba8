package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"postern/internal/document"
	"postern/internal/hosts"
	"postern/internal/rewrite"
)

// settingFlags are the flags that are settings of a host.
var settingFlags = []struct{ key, usage string }{
	{hosts.KeyAddress, flagAddress},
	{hosts.KeyPort, flagPort},
	{hosts.KeyKnock, flagKnock},
	{hosts.KeyStepTimeout, flagStepTimeout},
	{hosts.KeyGap, flagGap},
	{hosts.KeyTimeout, flagTimeout},
	{hosts.KeyFamily, flagFamily},
	{hosts.KeyUser, flagUser},
}

func flagOf(key string) string { return strings.ReplaceAll(key, "_", "-") }

func (s *session) addCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:     "add NAME | [NAME] LINK",
		Short:   shortAdd,
		Long:    longAdd,
		Example: exampleAdd,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return &usageError{err: errors.New(sayNothingToAdd), cmd: cmd}
			case len(args) > 1 && byLink(args[0]) == byLink(args[1]):
				return &usageError{err: surplus(args[1]), cmd: cmd}
			}
			return exactly(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			h, err := s.newcomer(args)
			if err != nil {
				return err
			}
			if err := settings(cmd, &h); err != nil {
				return &usageError{err: err, cmd: cmd}
			}
			on := hosts.Refuse
			if force {
				on = hosts.Replace
			}
			return s.add(h, on)
		},
	}
	for _, f := range settingFlags {
		cmd.Flags().String(flagOf(f.key), "", f.usage)
	}
	cmd.Flags().BoolVar(&force, "force", false, flagForce)
	withoutPolicy(cmd)
	return cmd
}

// byLink tells whether an argument stands for a link.
func byLink(arg string) bool { return arg == "-" || hosts.IsLink(arg) }

// newcomer gives the host that the arguments name: what a link says of it, or
// nothing but its name.
func (s *session) newcomer(args []string) (hosts.Host, error) {
	name, link := "", ""
	for _, arg := range args { // in either order
		if byLink(arg) {
			link = arg
		} else {
			name = arg
		}
	}
	if link == "" {
		return hosts.New(name), nil
	}
	if link == "-" {
		// One byte more than any link has; a link that is too long is not read whole.
		text, err := io.ReadAll(io.LimitReader(s.stdin, hosts.MaxLink+1))
		if err != nil {
			return hosts.Host{}, notRead("stdin", err)
		}
		link = strings.TrimSpace(string(text))
	}
	h, err := hosts.ParseLink(link)
	if err != nil {
		return hosts.Host{}, badLink(err)
	}
	h.Name = cmp.Or(name, h.Name)
	return h, nil
}

// settings has the flags change a host, and checks that it is whole.
func settings(cmd *cobra.Command, h *hosts.Host) error {
	if f := hosts.CheckName(h.Name); f != nil {
		return f
	}
	for _, flag := range settingFlags {
		given := cmd.Flags().Lookup(flagOf(flag.key))
		if !given.Changed {
			continue
		}
		if f := h.Set(flag.key, given.Value.String()); f != nil {
			return fmt.Errorf("--%s: %w", given.Name, f)
		}
	}
	if key, f := h.Check(); f != nil {
		return fmt.Errorf("--%s: %w", flagOf(key), f)
	}
	return nil
}

// added is the answer of add to programs.
type added struct {
	File     string   `json:"file"`
	Replaced bool     `json:"replaced"`
	Host     hostJSON `json:"host"`
	Warnings []remark `json:"warnings"`
}

func (s *session) add(h hosts.Host, on hosts.Clash) error {
	path, file, err := s.hostsFile()
	if err != nil {
		return err
	}
	answer := added{File: path, Replaced: file.Find(h.Name) != nil, Host: asJSON(&h, counted), Warnings: s.remarks}
	if err := hosts.Add(path, h, on); err != nil {
		return notAdded(path, err)
	}
	if s.json {
		return s.answer(answer)
	}
	s.sayAdded(&h, &answer)
	return nil
}

// badLink explains what is wrong with a link.
func badLink(err error) *failure {
	if _, ok := errors.AsType[*hosts.NewerError](err); ok {
		return &failure{Code: codeUnsupported, Message: err.Error(), Hints: []string{hintNewerLink}, err: err}
	}
	f := &failure{Code: codeUsage, Message: err.Error(), err: err}
	if fault, ok := errors.AsType[*document.Fault](err); ok {
		f.Message, f.Hints = fault.Message, []string{fault.Hint}
	}
	return f
}

// notAdded explains why a host was not added.
func notAdded(path string, err error) error {
	exists, _ := errors.AsType[*hosts.ExistsError](err)
	uneditable, _ := errors.AsType[*hosts.UneditableError](err)
	busy, _ := errors.AsType[*rewrite.BusyError](err)
	switch {
	case exists != nil:
		return &failure{Code: codeFailed, Message: sayExists(exists, path), Hints: []string{hintExists}, err: err}
	case uneditable != nil:
		return &failure{Code: codeFailed, Message: sayUneditable(path), Hints: []string{hintByHand + uneditable.Entry}, err: err}
	case busy != nil:
		return &failure{Code: codeFailed, Message: err.Error(), Hints: []string{hintBusyHosts}, err: err}
	}
	return hostsTrouble(sayHostsUnwritten, path, err)
}
