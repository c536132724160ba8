package cli

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/cli/ui"
	"postern/internal/hosts"
	"postern/internal/policy"
)

func (s *session) connectCommand() *cobra.Command {
	var patience timeout
	var quiet, pass bool
	cmd := &cobra.Command{
		Use:     "connect NAME",
		Short:   shortConnect,
		Long:    longConnect,
		Example: exampleConnect,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &ui.UsageError{Err: errors.New(sayNobodyToReach), Cmd: cmd}
			}
			return exactly(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			// Standard output is the service's.
			return s.AnswerLines(s.Err, func() error {
				h, err := s.hostFor(args[0], patience)
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
	cmd.Flags().Var(&patience, timeoutFlag, flagPatience)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, flagQuiet)
	passFlag(cmd, &pass)
	ui.WithoutPolicy(cmd)
	return cmd
}

// hostFor gives the host of that name, with the timeout of the command line if there is one.
func (s *session) hostFor(name string, patience timeout) (*hosts.Host, error) {
	h, err := s.host(name)
	if err != nil {
		return nil, s.meant(name, err)
	}
	if patience != 0 {
		h.Timeout = time.Duration(patience)
	}
	return h, nil
}

// meant says what a name that no host has stands for, maybe.
func (s *session) meant(name string, err error) error {
	f, ok := errors.AsType[*ui.Failure](err)
	if !ok || f.Code != ui.CodeUsage {
		return err
	}
	if _, host, found := strings.Cut(name, "@"); found && known(host) {
		f.Hints = []string{hintLogin(host)}
	} else if _, err := netip.ParseAddr(name); err == nil {
		f.Hints = []string{hintEntry(name)}
	}
	return err
}

// known tells whether the hosts file has a host of that name.
func known(name string) bool {
	_, file, err := readHosts()
	return err == nil && file.Find(name) != nil
}

// connect opens a host's door, and delivers the connection to whoever is to speak.
func (s *session) connect(ctx context.Context, h *hosts.Host, quiet bool, deliver func(context.Context, *net.TCPConn) error) error {
	if h.Service.Protocol != policy.TCP {
		return notTCP(h)
	}
	to := destination{port: h.Service}
	o, err := open(ctx, h, to, func(seen sight) {
		if !quiet {
			s.sayKnockingOn(h, to, seen)
		}
	})
	if err != nil {
		return err
	}
	defer o.conn.Close()
	if s.JSON {
		o.Warnings = s.Remarks
		s.Line(s.Err, o)
	} else if !quiet {
		s.sayOpened(o)
	}
	return deliver(ctx, o.conn)
}

// passOn copies standard input to the connection, and what comes from there to
// standard output, until the service has said all that it will. The end of standard
// input is passed on, too: many a service answers only then.
func (s *session) passOn(ctx context.Context, conn *net.TCPConn) error {
	// Closing it would wait for whoever polls it. Its end wakes those up, and the deadline all
	// others.
	stop := context.AfterFunc(ctx, func() {
		conn.SetDeadline(time.Unix(1, 0))
		conn.CloseRead()
		conn.CloseWrite()
	})
	defer stop()
	// Whoever reads us may have had enough. That is no failure, and nothing to be
	// killed for.
	signal.Ignore(syscall.SIGPIPE)
	err := exchange(ctx, s.stdin, s.Out, conn)
	switch {
	case ctx.Err() != nil:
		return ui.Interrupted()
	case readerGone(err), errors.Is(err, os.ErrClosed):
		return nil
	case isWrite(err):
		return notWritten(err)
	case err != nil:
		return brokenOff(err)
	}
	return nil
}

// isWrite tells errors of standard output from those of the connection: what is no
// socket is a file with a name.
func isWrite(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}
