package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"postern/internal/change"
	"postern/internal/cli/ui"
)

func (s *session) rollbackCommand() *cobra.Command {
	var expired, beside bool
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: shortRollback,
		Long:  longRollback,
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if expired {
				return s.rollbackLater(cmd.Context(), beside)
			}
			return s.rollback(cmd.Context(), nil, nil)
		},
	}
	cmd.Flags().BoolVar(&expired, expiredFlag, false, flagExpired)
	cmd.Flags().MarkHidden(expiredFlag)
	timer := strings.TrimPrefix(change.BesideTimer, "--")
	cmd.Flags().BoolVar(&beside, timer, false, flagBesideTimer)
	cmd.Flags().MarkHidden(timer)
	ui.WithoutPolicy(cmd) // it is about what was loaded
	return cmd
}

const expiredFlag = "expired"

// rollbackAgent is what "up" leaves behind, to bring the former rules back in time.
var rollbackAgent = []string{"rollback", "--" + expiredFlag}

// rollbackLater waits for the deadline. Whoever ends a terminal, or a log-in, does not
// end this; beside a timer it is not needed that much, and would hold up a machine that
// is switched off, or its unit that is restarted, until the deadline.
func (s *session) rollbackLater(ctx context.Context, besideTimer bool) error {
	signal.Ignore(os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE)
	if !besideTimer {
		signal.Ignore(syscall.SIGTERM)
	}
	return change.Here().Await(context.WithoutCancel(ctx), s.backends, func() { fmt.Fprintln(s.Out, change.Ready) })
}

// rolledBack is the answer of rollback to programs.
type rolledBack struct {
	Former formerState `json:"former"` // what runs again
}

// rollback brings back the rules before those that wait; with p, only before these.
// With a reason that is an error, in its words.
func (s *session) rollback(ctx context.Context, p *change.Pending, reason func(former *change.Saved) *ui.Failure) error {
	return s.settle(ctx, p, func(c *change.Change) error { return s.takeBack(c, reason) })
}

// takeBack is rollback for the holder of the lock.
func (s *session) takeBack(c *change.Change, reason func(former *change.Saved) *ui.Failure) error {
	former, err := c.Rollback(s.backends)
	c.End()
	if err != nil {
		return err
	}
	if reason != nil {
		return reason(former)
	}
	var answer rolledBack
	if former != nil {
		answer.Former = formerState{true, former.File, former.Backend, former.RuleSet}
	}
	if s.JSON {
		return s.Answer(answer)
	}
	s.Say("%s", backText(former))
	return nil
}

// overdue brings the former rules back if that should have happened before now: all
// that were to do it were killed.
func (s *session) overdue(c *change.Change) {
	if c.Pending == nil || c.Pending.Left() > 0 {
		return
	}
	former, err := c.Rollback(s.backends)
	if err != nil {
		s.Warn(notBack(err))
		return
	}
	s.Warn(lateBack(former))
}
