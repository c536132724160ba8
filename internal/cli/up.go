package cli

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/policy"
	"postern/internal/preflight"
)

func (s *session) upCommand() *cobra.Command {
	var yes, boot, unconfirmed bool
	wait := ui.Duration{Value: defaultConfirm, Unit: time.Second, Min: minConfirm, Max: maxConfirm}
	var backend *string
	cmd := &cobra.Command{
		Use:     "up",
		Short:   shortUp,
		Long:    longUp,
		Example: exampleUp,
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := s.named(*backend, cmd)
			if err != nil {
				return err
			}
			explicit := cmd.Flags().Changed("confirm")
			switch {
			case explicit && (boot || unconfirmed):
				return &ui.UsageError{Err: errors.New(sayEitherConfirm), Cmd: cmd}
			case boot:
				return s.up(cmd.Context(), s.bootSource, loading{backend: b, risk: takeRisk, chosen: true})
			case !explicit && (unconfirmed || len(host.WayIn()) == 0):
				wait.Value = 0
			}
			o := loading{backend: b, wait: wait.Value, chosen: explicit || unconfirmed}
			if yes {
				o.risk = takeRisk
			}
			src, err := s.fileSource() // before the lock: it may be typed
			if err != nil {
				return err
			}
			return s.up(cmd.Context(), func(*change.Change) (source, error) { return src, nil }, o)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, flagYes)
	cmd.Flags().Var(&wait, "confirm", flagConfirm)
	cmd.Flags().BoolVar(&unconfirmed, "no-confirm", false, flagNoConfirm)
	cmd.Flags().BoolVar(&boot, "boot", false, flagBoot)
	backend = s.backendFlag(cmd)
	return cmd
}

// How long rules may wait for a confirmation: enough to log in once more, and not so
// long that it is forgotten.
const (
	defaultConfirm = time.Minute
	minConfirm     = time.Second
	maxConfirm     = time.Hour
)

// loading is how a policy is to be loaded.
type loading struct {
	backend firewall.Backend // nil: the policy's, or else the one in use
	risk    risk
	wait    time.Duration // for a confirmation; 0: it needs none
	chosen  bool          // the caller has chosen that; otherwise, where rules wait already, it is as long again
}

// What up does about findings that are errors.
type risk int

const (
	refuseRisk risk = iota
	takeRisk
)

// loaded is the answer of up to programs.
type loaded struct {
	File     string       `json:"file"`
	Saved    bool         `json:"saved,omitempty"` // it is the copy of the file that ran last
	Backend  string       `json:"backend"`
	With     string       `json:"with,omitempty"` // the program that loaded the rules, and its version
	RuleSet  string       `json:"rule_set"`
	Replaced string       `json:"replaced"`            // "nothing", "same", "altered" (the same, which another program had modified) or "other"
	Grants   grantsKept   `json:"grants,omitempty"`    // what became of grants, where Replaced is "altered" or "other"
	TakenOut []string     `json:"taken_out,omitempty"` // other backends, whose rules were loaded
	Waited   waitedBefore `json:"waited,omitempty"`    // rules waited for a confirmation; without Pending that has ended
	Pending  *waiting     `json:"pending,omitempty"`   // the rules wait for a confirmation
	Doors    []loadedDoor `json:"doors"`
	Warnings []ui.Remark  `json:"warnings"`
}

// A grantsKept says what became of the grants that the rules before had given. Programs
// read its text.
type grantsKept string

const (
	allKept       grantsKept = "kept"
	unchangedKept grantsKept = "kept_if_unchanged" // those of doors that are just as they were
	perhapsKept   grantsKept = "unknown"           // another version of this program loaded the rules before
)

// A waitedBefore says which rules waited for a confirmation. Programs read its text.
type waitedBefore string

const (
	theseWaited  waitedBefore = "same"
	othersWaited waitedBefore = "other"
)

type loadedDoor struct {
	Name     string   `json:"name"`
	Services []string `json:"services"`
}

// A source is a policy that is to be loaded.
type source struct {
	*policy.Policy
	file, text string
	keys       string           // the file with the keys of the policy's users
	saved      bool             // it is the copy of the file that ran last
	backend    firewall.Backend // that it ran by; nil if that is not known
}

// up loads a policy.
func (s *session) up(ctx context.Context, from func(*change.Change) (source, error), o loading) error {
	p, err := s.load(ctx, from, o)
	if p == nil || err != nil || !s.canAsk() {
		return err
	}
	return s.ask(ctx, p)
}

// load loads a policy, and returns what waits for a confirmation then; nil if nothing
// does. It holds the lock no longer than it takes to load.
func (s *session) load(ctx context.Context, from func(*change.Change) (source, error), o loading) (*change.Pending, error) {
	c, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer c.End()
	s.overdue(c)
	src, err := from(c)
	if err != nil {
		return nil, err
	}
	survey := backends.Look(s.backends)
	b := o.backend
	switch {
	case b != nil:
	case src.Backend == "" && src.backend != nil:
		b = src.backend
	default:
		b = survey.For(src.Policy)
	}
	m, err := b.Machine(src.Policy)
	if err != nil {
		return nil, err
	}
	m.Keys = change.KeysIn(src.keys)
	var noSecret error
	m.Secret, noSecret = c.Secret()
	takeover, err := survey.TakeOver(b)
	if err != nil {
		return nil, err
	}
	found := preflight.Look(m, b, survey)
	if !slices.ContainsFunc(found, func(f preflight.Finding) bool { return f.Kind == preflight.SecretMissing }) {
		found = append(found, preflight.Secret(m, b, noSecret)...) // what only shows when one is made
	}
	// A terminal that stands still must not keep others from the rules: what there is
	// to say is said without the lock.
	report := func() int {
		c.End()
		return s.report(found, o.risk)
	}
	if o.risk == refuseRisk && slices.ContainsFunc(found, func(f preflight.Finding) bool { return f.Severity == preflight.Error }) {
		return nil, notLoaded(report())
	}
	next := change.Saved{
		Loaded: true, Backend: b.Name(), RuleSet: b.Digest(m), When: time.Now(), File: src.file, Policy: src.text, Keys: src.keys,
	}
	answer := loaded{
		File: src.file, Saved: src.saved, Backend: b.Name(), RuleSet: next.RuleSet, Replaced: replaces(takeover.Before, next.RuleSet),
	}
	answer.Grants = keepsGrants(answer.Replaced, c.Wanted(), takeover.Before, b, m)
	if waited := c.Pending; waited != nil {
		answer.Waited = othersWaited
		if waited.New.Same(&next) {
			answer.Waited = theseWaited
		}
		if !o.chosen { // nobody was asked whether to end the waiting
			o.wait = waited.Wait()
		}
	}
	// Rules that run already are confirmed only if they are the saved ones: they may
	// have come without anybody's confirmation.
	confirmed := c.Pending == nil && (c.Saved == nil && answer.Replaced == "same" || c.Saved != nil && c.Saved.Same(&next))
	proposed := o.wait > 0 && !confirmed
	if proposed {
		if err := c.Propose(next, survey, o.wait, rollbackAgent); err != nil {
			return nil, notProposed(err)
		}
	}
	if answer.TakenOut, err = takeover.Apply(m); err != nil {
		if proposed {
			err = s.undo(c, survey, err)
		}
		report()
		return nil, err
	}
	if proposed {
		if err := c.Applied(); err != nil {
			s.Warn(notProlonged(err))
		}
		answer.Pending = waits(c.State)
	} else if err := s.keep(c, next); err != nil {
		report()
		return nil, err
	}
	pending := c.Pending
	report()
	s.warnOfWatchdog()
	if err := s.answerLoaded(answer, b, m); err != nil || !proposed {
		return nil, err
	}
	return pending, nil
}

// undo takes back a proposal whose rules failed to load. It asks the kernel what
// runs: an error may come after the rules were loaded.
func (s *session) undo(c *change.Change, before backends.Survey, failure error) error {
	if before.Same(backends.Look(s.backends)) {
		return errors.Join(failure, c.Withdraw())
	}
	former, err := c.Rollback(s.backends)
	c.End()
	if err != nil {
		s.Warn(failedNotBack(err))
	} else {
		s.Warn(failedBack(former))
	}
	return failure
}

// fileSource is the policy file.
func (s *session) fileSource() (source, error) {
	p, text, err := s.policyFile()
	src := source{Policy: p, file: s.file, text: string(text)}
	if err == nil && p.HasKeys() {
		src.keys = s.keysFile()
	}
	return src, err
}

// bootSource is what a machine loads when it boots: the policy that ran last, or else
// the policy file. An edited file is not loaded before somebody says "postern up".
func (s *session) bootSource(c *change.Change) (source, error) {
	if c.Saved == nil {
		return s.fileSource()
	}
	if !c.Saved.Loaded {
		if c.Pending != nil {
			return source{}, stillWaits(c.Pending)
		}
		return source{}, neverConfirmed(s.file)
	}
	p, err := c.Saved.Parse()
	if err != nil { // an earlier version wrote it
		s.Warn(savedInvalid(s.file, err))
		return s.fileSource()
	}
	src := source{Policy: p, file: c.Saved.File, text: c.Saved.Policy, keys: c.Saved.Keys, saved: true}
	if i := slices.Index(backends.Names(s.backends), c.Saved.Backend); i >= 0 {
		src.backend = s.backends[i]
	}
	return src, nil
}

// keep saves what the kernel runs.
func (s *session) keep(c *change.Change, saved change.Saved) error {
	if err := c.Keep(saved); err != nil {
		return notSaved(err)
	}
	if err := c.Missing(); err != nil {
		s.Warn(notKept(err))
	}
	return nil
}

func (s *session) answerLoaded(answer loaded, b firewall.Backend, m *automaton.Machine) error {
	answer.Warnings = s.Remarks
	if d, ok := b.(firewall.Delegate); ok {
		answer.With, _ = d.Program()
	}
	for i := range m.Doors {
		answer.Doors = append(answer.Doors, loadedDoor{m.Doors[i].Name, services(m, &m.Doors[i])})
	}
	if s.JSON {
		return s.Answer(answer)
	}
	s.sayLoaded(answer)
	s.sayWaited(answer)
	if answer.Pending != nil {
		s.sayWaits(answer.Pending)
	}
	return nil
}

// warnOfWatchdog says that the watchdog that runs is another version of this program.
func (s *session) warnOfWatchdog() {
	if pid, same := change.Here().Watchdog(); !same {
		s.Warn(otherWatchdog(pid))
	}
}

// report says what preflight has found, and returns how many errors there are. To a
// person who takes the risk an error is a warning.
func (s *session) report(found []preflight.Finding, risk risk) (errors int) {
	for _, f := range found {
		if f.Severity == preflight.Error {
			if risk == takeRisk {
				f.Severity = preflight.Warning
			} else {
				errors++
			}
		}
		s.Warn(ui.AboutFinding(f))
	}
	return errors
}

// keepsGrants returns what becomes of grants. They go by names that depend on all that
// a door says, and on the version of this program: what ran before is compiled again to
// see whether this one makes the same rules of it.
func keepsGrants(replaced string, was *change.Saved, before *firewall.Status, b firewall.Backend, m *automaton.Machine) grantsKept {
	switch {
	case replaced == "altered":
		return allKept
	case replaced != "other":
		return ""
	case was == nil || !was.Loaded || was.Backend != b.Name() || was.RuleSet != before.Digest:
		return unchangedKept
	}
	_, old, err := was.Machine([]firewall.Backend{b})
	if err != nil || b.Digest(old) != before.Digest {
		return perhapsKept
	}
	for i := range old.Grants {
		if m.Grant(old.Grants[i].ID) == nil {
			return unchangedKept
		}
	}
	return allKept
}

// replaces returns what a rule set takes the place of.
func replaces(before *firewall.Status, digest string) string {
	switch {
	case !before.Loaded:
		return "nothing"
	case before.Digest != digest:
		return "other"
	case before.Altered:
		return "altered"
	}
	return "same"
}
