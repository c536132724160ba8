package change

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"postern/internal/firewall"
	"postern/internal/firewall/backends"
)

// A Pending is newer rules that wait for their confirmation. Without one, the state
// before comes back: no rules if Nothing is true, or else the Saved.
type Pending struct {
	ID       string        `json:"id"`
	Former   string        `json:"former"`  // the ID of the Saved
	Nothing  bool          `json:"nothing"` // no rules were loaded before, though there may be a Saved
	New      Saved         `json:"new"`
	Begun    time.Duration `json:"begun"`    // by CLOCK_BOOTTIME, which nobody sets
	Deadline time.Duration `json:"deadline"` // the same clock
	Until    time.Time     `json:"until"`    // the deadline, for people
}

// Left returns how much time is left for a confirmation; zero or less if there is
// none. The directory of a Pending is empty after a reboot on most machines. On others
// the clock has begun anew, and there is no time left. (The kernel's boot_id would say
// it for certain, but within a container or a sandbox it is another one, or hidden.)
func (p *Pending) Left() time.Duration {
	now := clock()
	if now < p.Begun {
		return 0
	}
	return p.Deadline - now
}

// Wait returns how long there is for a confirmation altogether.
func (p *Pending) Wait() time.Duration { return p.Deadline - p.Begun }

// Waits reports whether it is what waits in a state.
func (p *Pending) Waits(s State) bool { return s.Pending != nil && s.Pending.ID == p.ID }

// Propose notes rules that the kernel is to run next, and that wait for a
// confirmation. It returns when the state before comes back in time whatever happens
// to this process: see schedule. The caller applies the rules afterwards, and then
// calls Applied, or Withdraw if it failed to. If rules wait already, the state that
// comes back stays the one before those.
//
// The survey says what the kernel runs. If that is nothing that could come back, the
// error is an *UnknownError; if nothing can be kept here, it is Missing's.
func (c *Change) Propose(next Saved, survey backends.Survey, wait time.Duration, agent []string) error {
	if c.missing != nil {
		return c.missing
	}
	nothing, err := c.former(survey)
	if err != nil {
		return err
	}
	if c.Saved == nil { // for the machine to boot what it ran: nothing
		if err := c.save(Saved{When: time.Now()}); err != nil {
			return err
		}
		c.blank = true
	} else if c.Pending == nil { // what cannot be saved now cannot be confirmed later
		if err := c.save(*c.Saved); err != nil {
			return err
		}
	}
	now := clock()
	p := &Pending{
		ID: rand.Text(), Former: c.Saved.ID, Nothing: nothing, New: next,
		Begun: now, Deadline: now + wait, Until: time.Now().Add(wait),
	}
	c.earlier = c.Pending
	if err := write(c.pendingFile(), p); err != nil {
		if c.earlier == nil {
			err = errors.Join(err, c.Withdraw())
		}
		return err // what waited before is on disk as it was
	}
	// Until the new agents are there, those of an earlier change follow this one.
	c.Pending = p
	if err := p.schedule(agent); err != nil {
		return errors.Join(fmt.Errorf("the former rules could not be brought back later: %w", err), c.Withdraw())
	}
	if c.earlier != nil {
		c.earlier.unschedule()
	}
	return nil
}

// Applied begins the time for the confirmation anew: the rules that wait are loaded
// only now, which may have taken long.
func (c *Change) Applied() error {
	p := *c.Pending
	now, wait := clock(), p.Wait()
	p.Begun, p.Deadline, p.Until = now, now+wait, time.Now().Add(wait)
	if err := write(c.pendingFile(), p); err != nil {
		return err
	}
	c.Pending = &p
	return nil
}

// former reports whether the state that would come back is that nothing is loaded.
func (c *Change) former(survey backends.Survey) (nothing bool, err error) {
	if c.Pending != nil {
		return c.Pending.Nothing, nil
	}
	nothing = true
	for _, a := range survey {
		if a.Status == nil || !a.Status.Loaded {
			continue
		}
		nothing = false
		runs := Saved{Loaded: true, Backend: a.Name(), RuleSet: a.Status.Digest}
		if c.Saved == nil || !c.Saved.Same(&runs) {
			return false, &UnknownError{a.Name(), a.Status.Digest}
		}
	}
	return nothing, nil
}

// Withdraw notes that the kernel does not run what was proposed. If it runs what was
// proposed earlier, that waits again, until its own deadline; the agents of either
// look for whatever waits.
func (c *Change) Withdraw() error {
	if c.earlier != nil {
		c.Pending = c.earlier
		return write(c.pendingFile(), c.Pending)
	}
	if c.blank {
		c.blank = false
		return c.Forget()
	}
	return c.settle()
}

// Confirm keeps the rules that wait. The survey must show that the kernel runs them,
// and no others.
func (c *Change) Confirm(survey backends.Survey) error {
	if c.Pending == nil {
		return ErrNothingPending
	}
	found := false
	for _, a := range survey {
		if a.Status == nil || !a.Status.Loaded {
			continue
		}
		runs := Saved{Loaded: true, Backend: a.Name(), RuleSet: a.Status.Digest}
		if !runs.Same(&c.Pending.New) || a.Status.Altered {
			return ErrOtherRules
		}
		found = true
	}
	if !found {
		return ErrOtherRules
	}
	return c.Keep(c.Pending.New)
}

// Rollback has the kernel run what it ran before the rules that wait, and returns
// that; nil if it was nothing. If it fails, the rules still wait.
func (c *Change) Rollback(all []firewall.Backend) (*Saved, error) {
	if c.Pending == nil {
		return nil, ErrNothingPending
	}
	if c.Pending.Nothing || !c.Saved.Loaded {
		loaded, _, err := backends.Look(all).Loaded()
		if err != nil {
			return nil, err
		}
		for _, a := range loaded {
			if a.Status.Loaded {
				if err := a.Remove(); err != nil {
					return nil, err
				}
			}
		}
		return nil, c.settle()
	}
	b, m, err := c.Saved.Machine(all)
	if err != nil {
		return nil, err
	}
	m.Secret, _ = c.Secret() // who proposed has said what is wrong with it
	takeover, err := backends.Look(all).TakeOver(b)
	if err != nil {
		return nil, err
	}
	if _, err := takeover.Apply(m); err != nil {
		return nil, err
	}
	// What the takeover could not read it has not removed. The rules of two backends
	// let nobody in.
	for _, other := range all {
		if other.Name() == c.Pending.New.Backend && other.Name() != b.Name() {
			if err := other.Remove(); err != nil {
				return nil, err
			}
		}
	}
	if err := c.settle(); err != nil {
		return nil, err
	}
	c.Renew(c.Saved, b.Digest(m)) // an error changes nothing about what runs: the next look repeats it
	return c.Saved, nil
}

// Await waits until no rules wait for a confirmation any more, and rolls them back if
// their time passes. It calls ready as soon as it is sure that it can. From then on it
// does not give up.
func (p *Place) Await(ctx context.Context, all []firewall.Backend, ready func()) error {
	s, err := p.Read()
	if err != nil || s.Pending == nil {
		return err
	}
	if !s.Pending.Nothing && s.Saved.Loaded {
		if _, _, err := s.Saved.Machine(all); err != nil {
			return err
		}
	}
	ready()
	for err != nil || s.Pending != nil {
		wait := poll
		if err == nil {
			wait = min(poll, s.Pending.Left())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if s, err = p.Read(); err == nil && s.Pending != nil && s.Pending.Left() <= 0 {
			if err = p.rollbackExpired(ctx, all); err == nil {
				s, err = p.Read()
			}
		}
	}
	return nil
}

// Ready is what an agent prints, on a line of its own, when Await says that it is ready.
const Ready = "ready"

// BesideTimer is one more argument of an agent's, where a timer of systemd's starts
// one as well. Then it may be ended as any process, when a unit or the machine stops.
const BesideTimer = "--beside-timer"

// poll is how often Await looks: the timers of a process stand still while the
// machine is suspended, and the deadline does not.
const poll = time.Second

// rollbackExpired rolls back if the time has passed.
func (p *Place) rollbackExpired(ctx context.Context, all []firewall.Backend) error {
	c, err := p.Begin(ctx, func(int) {})
	if c == nil {
		return err
	}
	defer c.End()
	if c.Pending == nil || c.Pending.Left() > 0 {
		return nil
	}
	_, err = c.Rollback(all)
	return err
}

var (
	// ErrNothingPending says that no rules wait for a confirmation.
	ErrNothingPending = errors.New("no rules wait for a confirmation")
	// ErrOtherRules says that the kernel does not run the rules that wait.
	ErrOtherRules = errors.New("the kernel does not run the rules that wait for a confirmation")
)

// An UnknownError says that rules are loaded that no saved policy describes, so that
// they could not be loaded again.
type UnknownError struct{ Backend, RuleSet string }

func (e *UnknownError) Error() string {
	return fmt.Sprintf("the loaded rule set %s (%s) is not the one that is saved, so it could not come back", e.RuleSet, e.Backend)
}
