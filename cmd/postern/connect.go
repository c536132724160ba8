package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/hosts"
	"postern/internal/policy"
)

func (s *session) connectCommand() *cobra.Command {
	var timeout time.Duration
	var quiet, pass bool
	cmd := &cobra.Command{
		Use:     "connect NAME",
		Short:   shortConnect,
		Long:    longConnect,
		Example: exampleConnect,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{err: errors.New(sayNobodyToReach), cmd: cmd}
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			// Standard output is the service's.
			return s.answerLines(s.err, func() error {
				h, err := s.hostFor(cmd, args[0], timeout)
				if err != nil {
					return err
				}
				deliver := s.passOn
				if pass {
					if err := canReceive(); err != nil {
						return err
					}
					deliver = handOver
				}
				return s.connect(cmd.Context(), h, quiet, deliver)
			})
		},
	}
	cmd.Flags().DurationVar(&timeout, timeoutFlag, hosts.DefaultTimeout, flagPatience)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, flagQuiet)
	passFlag(cmd, &pass)
	withoutPolicy(cmd)
	return cmd
}

const timeoutFlag = "timeout"

// hostFor gives the host of that name, with the timeout of the command line if there is one.
func (s *session) hostFor(cmd *cobra.Command, name string, timeout time.Duration) (*hosts.Host, error) {
	if timeout <= 0 {
		return nil, &usageError{err: errors.New(sayNoTime), cmd: cmd}
	}
	h, err := s.host(name)
	if err == nil && cmd.Flags().Changed(timeoutFlag) {
		h.Timeout = timeout
	}
	return h, err
}

// connect opens a host's door, and delivers the connection to whoever is to speak.
func (s *session) connect(ctx context.Context, h *hosts.Host, quiet bool, deliver func(context.Context, *net.TCPConn) error) error {
	if h.Service.Protocol != policy.TCP {
		return notTCP(h)
	}
	o, err := open(ctx, h, destination{port: h.Service})
	if err != nil {
		return err
	}
	defer o.conn.Close()
	if s.json {
		o.Warnings = s.remarks
		s.line(s.err, o)
	} else if !quiet {
		s.sayOpened(o)
	}
	return deliver(ctx, o.conn)
}

// passOn copies standard input to the connection, and what comes from there to
// standard output, until the service has said all that it will. The end of standard
// input is passed on, too: many a service answers only then.
func (s *session) passOn(ctx context.Context, conn *net.TCPConn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// Whoever reads us may have had enough. That is no failure, and nothing to be
	// killed for.
	signal.Ignore(syscall.SIGPIPE)
	widen(s.stdin)
	go func() {
		carry(conn, s.stdin)
		conn.CloseWrite()
	}()
	_, err := bring(s.out, conn)
	switch {
	case ctx.Err() != nil:
		return interrupted()
	case errors.Is(err, syscall.EPIPE), errors.Is(err, os.ErrClosed):
		return nil
	case err != nil:
		return brokenOff(err)
	}
	return nil
}
