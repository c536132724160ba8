package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/hosts"
	"postern/internal/knocker"
	"postern/internal/policy"
)

func (s *session) knockCommand() *cobra.Command {
	var v4, v6 bool
	var delay time.Duration
	cmd := &cobra.Command{
		Use:     "knock NAME | HOST PORT...",
		Short:   shortKnock,
		Long:    longKnock,
		Example: exampleKnock,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{err: errors.New(sayNobodyToKnock), cmd: cmd}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			family := knocker.AnyFamily
			switch {
			case v4 && v6:
				return &usageError{err: errors.New(sayBothFamilies), cmd: cmd}
			case v4:
				family = knocker.IPv4
			case v6:
				family = knocker.IPv6
			}
			if delay < 0 {
				return &usageError{err: errors.New(sayNegativeDelay), cmd: cmd}
			}
			if len(args) > 1 {
				ports, err := portsOf(args[1:])
				if err != nil {
					return &usageError{err: err, cmd: cmd}
				}
				return s.knock(cmd.Context(), args[0], family, ports, delay)
			}
			h, err := s.host(args[0])
			if err != nil {
				return orPorts(err)
			}
			if family == knocker.AnyFamily {
				family = familyOf(h)
			}
			if h.Gap > 0 && !cmd.Flags().Changed("delay") {
				delay = h.Gap
			}
			return s.knock(cmd.Context(), h.Address, family, h.Knock, delay)
		},
	}
	cmd.Flags().BoolVarP(&v4, "ipv4", "4", false, flagIPv4)
	cmd.Flags().BoolVarP(&v6, "ipv6", "6", false, flagIPv6)
	cmd.Flags().DurationVar(&delay, "delay", 50*time.Millisecond, flagDelay)
	withoutPolicy(cmd)
	return cmd
}

// orPorts says what else was meant, maybe, by a name that no host has.
func orPorts(err error) error {
	if f, ok := errors.AsType[*failure](err); ok && f.Code == codeUsage {
		f.Hints = append(f.Hints, hintPorts)
	}
	return err
}

// portsOf reads the ports of a command line.
func portsOf(args []string) ([]policy.Port, error) {
	ports := make([]policy.Port, 0, len(args))
	for _, arg := range args {
		port, err := policy.ParsePort(arg)
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// familyOf is by which addresses the hosts file says to go to a host.
func familyOf(h *hosts.Host) knocker.Family {
	switch h.Family {
	case hosts.IPv4:
		return knocker.IPv4
	case hosts.IPv6:
		return knocker.IPv6
	}
	return knocker.AnyFamily
}

// knocked is the answer of knock to programs.
type knocked struct {
	Host    string   `json:"host"`
	Address string   `json:"address"`
	Knocks  []string `json:"knocks"`
}

func (s *session) knock(ctx context.Context, host string, family knocker.Family, ports []policy.Port, delay time.Duration) error {
	to, err := knocker.Resolve(ctx, host, family)
	if err != nil {
		return err
	}
	answer := knocked{Host: host, Address: to.String()}
	err = knocker.Knock(ctx, to, ports, delay, func(p policy.Port) {
		answer.Knocks = append(answer.Knocks, p.String())
		s.sayKnock(len(answer.Knocks), len(ports), p, to)
	})
	if err != nil {
		return err
	}
	if s.json {
		return s.answer(answer)
	}
	s.sayKnocked(host, to)
	return nil
}
