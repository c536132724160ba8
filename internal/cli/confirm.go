package cli

import (
	"bufio"
	"context"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/firewall/backends"
)

func (s *session) confirmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "confirm",
		Short: shortConfirm,
		Long:  longConfirm,
		Args:  exactly(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return s.confirm(cmd.Context(), nil) },
	}
	ui.WithoutPolicy(cmd) // it is about what is loaded
	return cmd
}

// confirmed is the answer of confirm to programs.
type confirmed struct {
	File    string `json:"file"`
	Backend string `json:"backend"`
	RuleSet string `json:"rule_set"`
}

// confirm keeps the rules that wait; with p, only these.
func (s *session) confirm(ctx context.Context, p *change.Pending) error {
	return s.settle(ctx, p, func(c *change.Change) error {
		if c.Pending.Left() <= 0 {
			return s.takeBack(c, tooLate)
		}
		if err := c.Confirm(backends.Look(s.backends)); err != nil {
			return notConfirmed(err)
		}
		c.End()
		answer := confirmed{c.Saved.File, c.Saved.Backend, c.Saved.RuleSet}
		if s.JSON {
			return s.Answer(answer)
		}
		s.sayConfirmed(answer)
		return nil
	})
}

// settle takes the lock, and decides about the rules that wait; with p, only about
// these.
func (s *session) settle(ctx context.Context, p *change.Pending, decide func(*change.Change) error) error {
	c, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer c.End()
	switch {
	case p != nil && !p.Waits(c.State):
		c.End()
		return s.settledElsewhere(c.State, p)
	case c.Pending == nil:
		return nothingWaits(c)
	}
	return decide(c)
}

// waiting is what programs are told of rules that wait for a confirmation.
type waiting struct {
	Left   float64     `json:"seconds_left"` // less than zero: too late, and the former rules are not back
	Until  time.Time   `json:"until"`
	Former formerState `json:"former"` // what comes back

	left time.Duration
	when time.Time // Former was loaded
}

type formerState struct {
	Loaded  bool   `json:"loaded"` // false: nothing was
	File    string `json:"file,omitempty"`
	Backend string `json:"backend,omitempty"`
	RuleSet string `json:"rule_set,omitempty"`
}

// waits describes the rules that wait; nil if none do.
func waits(st change.State) *waiting {
	if st.Pending == nil {
		return nil
	}
	left := st.Pending.Left()
	w := &waiting{Left: left.Seconds(), Until: st.Pending.Until.Round(time.Second), left: left}
	if f := st.Saved; f.Loaded && !st.Pending.Nothing {
		w.Former, w.when = formerState{true, f.File, f.Backend, f.RuleSet}, f.When
	}
	return w
}

// canAsk reports whether somebody can be asked at a terminal.
func (s *session) canAsk() bool {
	in, isFile := s.stdin.(*os.File)
	columns, _ := s.Screen()
	return !s.JSON && isFile && ui.IsTerminal(in) && columns > 0
}

// ask asks whether to keep the rules, until somebody says so here or elsewhere or the
// time is over. It holds no lock meanwhile.
func (s *session) ask(ctx context.Context, p *change.Pending) error {
	lines := make(chan string)
	go func() {
		in := bufio.NewScanner(s.stdin)
		for in.Scan() {
			lines <- strings.ToLower(strings.TrimSpace(in.Text()))
		}
		// The terminal is gone, or Ctrl-D: there are other ways to confirm.
	}()
	tick := time.NewTicker(askInterval)
	defer tick.Stop()
	s.Prompt(askText(p.Left()))
	for {
		select {
		case <-ctx.Done():
			s.Prompt("\n")
			return s.rollback(context.WithoutCancel(ctx), p, interruptedUp)
		case line := <-lines:
			switch line {
			case "y", "yes":
				return s.confirm(ctx, p)
			case "n", "no":
				return s.rollback(ctx, p, refusedRules)
			}
			s.Prompt(askText(p.Left()))
		case <-tick.C:
			st, err := change.Here().Read()
			switch {
			case err != nil:
			case !p.Waits(st):
				s.Prompt("\n")
				return s.settledElsewhere(st, p)
			case p.Left() <= 0:
				s.Prompt("\n")
				return s.rollback(ctx, p, tooLate)
			}
			s.Reprompt(askText(p.Left()))
		}
	}
}

// askInterval is how often the prompt says how much time is left.
const askInterval = 500 * time.Millisecond

// settledElsewhere says what became of rules that wait no longer.
func (s *session) settledElsewhere(st change.State, p *change.Pending) error {
	switch {
	case st.Pending != nil && st.Pending.New.Same(&p.New):
		s.Say("another \"postern up\" has loaded the same rules, which wait for an answer there")
		return nil
	case st.Pending != nil:
		s.Say("another \"postern up\" has loaded other rules, which wait now")
		return nil
	case st.Saved != nil && st.Saved.Same(&p.New):
		s.sayConfirmed(confirmed{st.Saved.File, st.Saved.Backend, st.Saved.RuleSet})
		return nil
	}
	switch {
	case st.Saved == nil: // by "postern down"
		return removedMeanwhile()
	case st.Saved.When.After(p.New.When): // by "postern up --no-confirm"
		return replacedMeanwhile(st.Saved)
	case p.Left() > 0: // by "postern rollback"
		return refusedRules(st.Saved)
	}
	return tooLate(st.Saved)
}
