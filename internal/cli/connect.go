package cli

import (
	"context"
	"errors"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/client"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// A connecting is what connect was asked for.
type connecting struct {
	timeout            ui.Duration
	quiet, brief, pass bool
}

func (s *session) connectCommand() *cobra.Command {
	c := connecting{timeout: ui.Duration{Unit: time.Second, Min: 1, Max: hosts.MaxTimeout}}
	cmd := &cobra.Command{
		Use:               "connect NAME",
		Short:             shortConnect,
		Long:              longConnect,
		Example:           exampleConnect,
		Args:              oneHost,
		ValidArgsFunction: completeHost,
		RunE: func(cmd *cobra.Command, args []string) error {
			// Standard output is the service's.
			return s.AnswerLines(s.Err, func() error { return s.connect(cmd.Context(), args[0], c) })
		},
	}
	cmd.Flags().Var(&c.timeout, "timeout", flagPatience)
	cmd.Flags().BoolVarP(&c.quiet, "quiet", "q", false, flagQuiet)
	cmd.Flags().BoolVar(&c.brief, "brief", false, flagBrief)
	if client.CanPass {
		cmd.Flags().BoolVar(&c.pass, "fdpass", false, flagPass)
	}
	ui.WithoutPolicy(cmd)
	return cmd
}

// connection is the answer of connect to programs.
type connection struct {
	*client.Opened
	Warnings []ui.Remark `json:"warnings,omitempty"`
}

// connect opens a host's door, and passes bytes on or hands the connection over.
func (s *session) connect(ctx context.Context, name string, c connecting) error {
	h, err := s.host(name)
	if err != nil {
		return err
	}
	if c.timeout.Value != 0 {
		h.Timeout = c.timeout.Value
	}
	if c.pass {
		if err := client.CheckReceiver(); err != nil {
			return err
		}
	}
	if h.Service.Protocol != policy.TCP {
		return &client.NotTCPError{Host: h}
	}
	o, err := client.Open(ctx, h, client.Destination{Port: h.Service}, func(seen client.Seen) {
		if !c.quiet {
			s.Say("%s", stillKnocking(h.Name, h, seen))
		}
	})
	switch {
	case ctx.Err() != nil:
		return ui.Interrupted()
	case err != nil:
		return err
	}
	defer o.Conn.Close()
	if s.JSON {
		s.Line(s.Err, connection{o, s.Remarks})
	} else if !c.quiet && !c.brief {
		s.sayOpened(o)
	}
	if c.pass {
		return client.Pass(o.Conn)
	}
	// That nobody reads standard output any more is no failure.
	signal.Ignore(syscall.SIGPIPE)
	err = client.Relay(ctx, s.stdin, s.Out, o.Conn)
	if errors.Is(err, context.Canceled) {
		return ui.Interrupted()
	}
	return err
}
