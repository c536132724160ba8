package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"postern/internal/hosts"
	"postern/internal/knocker"
	"postern/internal/policy"
)

func (s *session) connectCommand() *cobra.Command {
	var timeout time.Duration
	var quiet bool
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
			h, err := s.host(args[0])
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("timeout") {
				h.Timeout = timeout
			}
			if h.Timeout <= 0 {
				return &usageError{err: errors.New(sayNoTime), cmd: cmd}
			}
			return s.connect(cmd.Context(), h, quiet)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", hosts.DefaultTimeout, flagPatience)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, flagQuiet)
	withoutAny(cmd)
	return cmd
}

// connect opens a host's door, and then passes on what comes and goes.
func (s *session) connect(ctx context.Context, h *hosts.Host, quiet bool) error {
	if h.Service.Protocol != policy.TCP {
		return notTCP(h)
	}
	opening, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	addresses, err := knocker.ResolveAll(opening, h.Address, familyOf(h))
	if err != nil {
		return err
	}
	begun := time.Now()
	tries := 0
	conn, err := knocker.Open(opening, knocker.Door{
		Ways: ways(addresses, h.Service), Knocks: h.Knock, StepTimeout: h.StepTimeout, Gap: h.Gap,
	}, func(knocker.Try) { tries++ })
	var shut *knocker.OpenError
	switch {
	case ctx.Err() != nil:
		return interrupted()
	case errors.As(err, &shut):
		return staysShut(h, addresses, shut)
	case err != nil:
		return err
	}
	defer conn.Close()
	if !quiet {
		s.sayOpened(h, conn.RemoteAddr().String(), tries, time.Since(begun))
	}
	return s.passOn(ctx, conn.(*net.TCPConn))
}

// ways leads to a service that is where the knocks go.
func ways(addresses []netip.Addr, service policy.Port) []knocker.Way {
	all := make([]knocker.Way, len(addresses))
	for i, a := range addresses {
		all[i] = knocker.Way{Knock: a, Service: netip.AddrPortFrom(a, service.Number)}
	}
	return all
}

// passOn copies standard input to the connection, and what comes from there to
// standard output, until the service has said all that it will. The end of standard
// input is passed on, too: many a service answers only then.
func (s *session) passOn(ctx context.Context, conn *net.TCPConn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	go func() {
		if _, err := io.Copy(conn, s.stdin); err == nil {
			conn.CloseWrite()
		}
	}()
	_, err := io.Copy(s.out, conn)
	switch {
	case ctx.Err() != nil:
		return interrupted()
	case errors.Is(err, unix.EPIPE), errors.Is(err, os.ErrClosed):
		return nil // whoever reads us has had enough
	case err != nil:
		return brokenOff(err)
	}
	return nil
}
