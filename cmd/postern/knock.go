package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/knocker"
	"postern/internal/policy"
)

func (s *session) knockCommand() *cobra.Command {
	var v4, v6 bool
	var delay time.Duration
	cmd := &cobra.Command{
		Use:     "knock HOST PORT...",
		Short:   shortKnock,
		Long:    longKnock,
		Example: exampleKnock,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return &usageError{err: errNoKnocks(len(args)), cmd: cmd}
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
			var ports []policy.Port
			for _, arg := range args[1:] {
				port, err := policy.ParsePort(arg)
				if err != nil {
					return &usageError{err: err, cmd: cmd}
				}
				ports = append(ports, port)
			}
			return s.knock(cmd.Context(), args[0], family, ports, delay)
		},
	}
	cmd.Flags().BoolVarP(&v4, "ipv4", "4", false, flagIPv4)
	cmd.Flags().BoolVarP(&v6, "ipv6", "6", false, flagIPv6)
	cmd.Flags().DurationVar(&delay, "delay", 50*time.Millisecond, flagDelay)
	withoutPolicy(cmd)
	return cmd
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
