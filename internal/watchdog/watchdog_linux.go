// Package watchdog keeps the rules of the policy that ran last loaded, whatever other
// programs flush.
//
// It hears of every change of the kernel's rules (NFNLGRP_NFTABLES), and where one
// takes or modifies ours it loads them again. No packet passes through it: while it
// is dead the rules work as without it. Where the backend can hold its rules, a
// flush does not take them in the first place.
//
// What is to be loaded is what package change keeps on disk: the watchdog has no
// policy of its own. A program that changes rules pauses it (package pause), and it
// looks again when the pause is over.
//
// When its own file has been replaced, as by an upgrade, it goes on as the new one
// before it does anything. If rules were loaded by yet another version of the
// program, it leaves them alone as long as they are there: its own would not be the
// same.
package watchdog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/pause"
)

// A Config is what a watchdog works with.
type Config struct {
	Place    *change.Place
	Backends []firewall.Backend
	Journal  *Journal
	OnlyLook bool // do not hold the rules
}

const (
	// firstRetry is how long after a failure the next attempt is. It is twice as
	// long after each one that fails, up to longestRetry.
	firstRetry   = 10 * time.Millisecond
	longestRetry = time.Second

	// poll is how often a backend is asked that hears nothing of changes.
	poll = 20 * time.Millisecond

	// longestPause is longer than any change of rules takes.
	longestPause = 2 * time.Minute
)

// A watchdog is all that Run knows. Only the goroutine of Run uses it.
type watchdog struct {
	Config
	program  program
	heard    *notices
	kept     *kept // nil: nothing is to be loaded
	pauses   int   // that programs have asked for and not ended
	over     chan struct{}
	begun    chan begun
	retry    <-chan time.Time
	wait     time.Duration    // until the next attempt after a failure
	deadline <-chan time.Time // of a change that waits for its confirmation

	looked   bool      // at the rules, once
	look     bool      // they are to be looked at
	starting bool      // and the lock is asked for already
	told     bool      // a notice said that others have changed them, or may have
	gone     bool      // and taken them out
	by       string    // whose change it was
	since    time.Time // when it was heard of

	restored, failed limiter
	saidHeld         bool   // or that they are not
	saidSecret       string // what is wrong with it; "": nothing
}

// A kept rule set is one that is to be loaded.
type kept struct {
	saved   change.Saved
	backend firewall.Backend
	machine *automaton.Machine
	digest  string // of the machine's rules; it takes long to make for very many doors
	foreign bool   // another version of this program has loaded others, and these are not loaded
	keeper  firewall.Keeper
}

// begun is the outcome of asking for the lock.
type begun struct {
	change *change.Change
	err    error
}

// Run keeps the rules loaded until the context ends. It fails if it cannot begin: with
// a *pause.RunningError if another watchdog runs.
func Run(ctx context.Context, config Config) error {
	// This also makes the directories.
	c, err := config.Place.BeginAsWatchdog(ctx)
	if c == nil {
		return err
	}
	c.End()
	if err := config.Place.Missing(); err != nil {
		return fmt.Errorf("what is to be loaded is not known: %w", err)
	}
	listener, err := pause.Listen(config.Place.Runtime())
	if err != nil {
		return err
	}
	defer listener.Close()
	heard, err := listen()
	if err != nil {
		return err
	}
	defer heard.close()
	w := &watchdog{Config: config, program: thisProgram(), heard: heard, over: make(chan struct{}), begun: make(chan begun), look: true}
	w.run(ctx, listener)
	w.keep(nil)
	w.Journal.say(info, "watchdog: stops, and leaves the rules as they are")
	return nil
}

// Once loads the rules if they are not as they should be, and holds nothing.
func Once(ctx context.Context, config Config) error {
	config.OnlyLook = true
	c, unread := config.Place.BeginAsWatchdog(ctx)
	if c == nil {
		return unread
	}
	defer c.End()
	w := &watchdog{Config: config}
	defer func() {
		if w.kept != nil {
			w.kept.keeper.Close()
		}
	}()
	return w.lookAt(c, unread)
}

// run does what is asked, until the context ends. It begins with a look.
func (w *watchdog) run(ctx context.Context, listener *pause.Listener) {
	var alive, ask, tick <-chan time.Time
	if every := heartbeat(); every > 0 {
		alive = time.NewTicker(every).C
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for first := true; ; {
		ask, tick = nil, nil
		if w.kept != nil && !w.kept.keeper.Notified() {
			ask = time.After(poll)
		}
		verifier, _ := w.verifier()
		if w.restored.count > 0 || w.failed.count > 0 || verifier != nil {
			tick = ticker.C
		}
		if w.look && w.pauses == 0 && !w.starting {
			w.starting = true
			go func() {
				c, err := w.Place.BeginAsWatchdog(ctx)
				w.begun <- begun{c, err}
			}()
		}
		select {
		case <-ctx.Done():
			return
		case <-alive:
			if !first { // systemd counts from READY
				notify("WATCHDOG=1")
			}
		case <-w.heard.readable:
			w.hear()
		case r := <-listener.Requests():
			w.pause(ctx, r)
		case <-w.over:
			w.resume()
		case b := <-w.begun:
			w.starting = false
			switch {
			case b.change == nil:
				w.look = false // until the next attempt
				w.fail(b.err)
			case w.pauses > 0: // it has been asked to wait
				b.change.End()
			default:
				w.renew(ctx)
				if err := w.lookAt(b.change, b.err); err != nil {
					w.fail(err)
				} else {
					w.wait = 0
				}
				b.change.End()
				if first {
					notify("READY=1")
					first = false
				}
			}
		case <-w.retry:
			w.look, w.retry = true, nil
		case <-w.deadline:
			w.look, w.deadline = true, nil
		case now := <-tick:
			w.sayRest(now)
			w.verifyEverywhere()
		case <-ask:
			if !w.look && w.kept.keeper.Changed() {
				w.look, w.told, w.by, w.since = true, true, "", time.Now()
			}
		}
	}
}

// verifier returns what verifies tokens or drops packets early, and of which machine; nil if
// nothing is to.
func (w *watchdog) verifier() (firewall.KeyVerifier, *automaton.Machine) {
	if w.kept == nil || w.kept.foreign || w.pauses > 0 ||
		!w.kept.machine.Policy.HasKeys() && !w.kept.machine.Parameters.Early {
		return nil, nil
	}
	v, _ := w.kept.keeper.(firewall.KeyVerifier)
	return v, w.kept.machine
}

// verifyEverywhere has the same done on interfaces that have come, and by the clock as it is
// now. What goes wrong is tried again.
func (w *watchdog) verifyEverywhere() {
	v, m := w.verifier()
	if v == nil {
		return
	}
	if err := v.VerifyEverywhere(m); err != nil {
		w.sayFailed(time.Now(), err)
	}
}

// hear reads notices.
func (w *watchdog) hear() {
	h := w.heard.read(someNotices, func(n firewall.Notice) bool { return w.kept != nil && w.kept.keeper.Concerns(n) })
	if !h.hit && !h.lost {
		return
	}
	if !w.look {
		w.since = time.Now()
	}
	w.look = true
	if h.hit {
		w.told, w.gone, w.by = true, h.gone, h.by
	}
}

// pause lets go of the rules for a program that is to change them. That may be the one
// that replaces this one.
func (w *watchdog) pause(ctx context.Context, r *pause.Request) {
	if w.pauses == 0 && w.kept != nil {
		if err := w.kept.keeper.LetGo(); err != nil {
			w.fail(err)
		}
	}
	w.renew(ctx)
	w.pauses++
	r.Grant(longestPause, func() { w.over <- struct{}{} })
}

// renew goes on as the program that has taken the place of this one, if one has. It
// begins anew with all there is to do, and the lock and what is held end with this
// one's files.
func (w *watchdog) renew(ctx context.Context) {
	if !w.program.replaced() {
		return
	}
	w.Journal.say(info, "watchdog: goes on as what is %s now", w.program.path)
	if err := w.program.start(ctx); err != nil {
		w.Journal.say(failure, "watchdog: cannot go on as that: %v", err)
	}
}

// resume looks at what the program has done. Its notices are no news.
func (w *watchdog) resume() {
	if w.pauses--; w.pauses > 0 {
		return
	}
	w.heard.read(allNotices, func(firewall.Notice) bool { return false })
	w.look, w.told, w.since = true, false, time.Now()
}

// lookAt does what is needed for the wanted rules to be loaded. An error of what is
// kept on disk does not keep it from loading what it knows.
func (w *watchdog) lookAt(c *change.Change, unread error) error {
	told := w.told
	first := !w.looked
	w.look, w.told, w.deadline, w.looked = false, false, nil, true
	if c.Pending != nil && c.Pending.Left() <= 0 {
		// Those that were to do this are dead.
		w.keep(nil)
		if _, err := c.Rollback(w.Backends); err != nil {
			return err
		}
		w.Journal.say(warning, "watchdog: nobody confirmed the rules in time, and the former ones are back")
	}
	wanted := c.Wanted()
	if unread != nil && w.kept != nil {
		wanted = &w.kept.saved // which is what it said before
	}
	if wanted == nil || !wanted.Loaded {
		w.keep(nil)
		return unread
	}
	if w.kept == nil || !w.kept.saved.Same(wanted) || !told && w.lacksSecret() {
		told = false // of what ran before
		k, err := w.prepare(wanted)
		if err != nil {
			return errors.Join(unread, err)
		}
		// What was saved before this process began may be an earlier version's.
		k.foreign = !first && k.digest != wanted.RuleSet
		w.keep(k)
		if k.foreign {
			w.Journal.say(warning, "watchdog: rule set %s is of another version of this program, and stays as it is; "+
				"if it is removed, rules of this version are loaded: restart the watchdog by the new one", wanted.RuleSet)
		}
	}
	if c.Pending != nil {
		w.deadline = time.After(c.Pending.Left())
	}
	if err := w.restore(told); err != nil {
		w.told = told
		return errors.Join(unread, err)
	}
	if w.kept.foreign {
		return errors.Join(unread, w.hold())
	}
	renewed := c.Renew(wanted, w.kept.digest)
	if renewed == nil && c.Pending == nil {
		w.kept.saved.RuleSet = w.kept.digest
	}
	return errors.Join(unread, renewed, w.hold())
}

// lacksSecret reports whether the host has got another secret than what is kept was made with.
// Only programs that pause this one load rules by another.
func (w *watchdog) lacksSecret() bool {
	secret := w.secret(w.kept.backend, w.kept.machine)
	return secret != nil && !bytes.Equal(secret, w.kept.machine.Secret)
}

// secret returns this host's secret, and says once what is wrong with it where times tell the
// less for one.
func (w *watchdog) secret(b firewall.Backend, m *automaton.Machine) []byte {
	secret, err := w.Place.Secret()
	if err == nil {
		w.saidSecret = ""
		return secret
	}
	if steady, is := b.(firewall.Steady); w.saidSecret == err.Error() || !is || !steady.Steady() || !m.Policy.Answers() {
		return secret
	}
	w.saidSecret = err.Error()
	if secret != nil {
		w.Journal.say(warning, "watchdog: %v, and is another one now: who times answers, now as before, can tell first knocks", err)
	} else {
		w.Journal.say(warning, "watchdog: %v: rules are loaded without this secret of the host, and a neighbour who times answers "+
			"finds a sequence knock by knock; \"postern check\" says what to do", err)
	}
	return secret
}

// prepare makes what is to be loaded.
func (w *watchdog) prepare(wanted *change.Saved) (*kept, error) {
	backend, machine, err := wanted.Machine(w.Backends)
	if err != nil {
		return nil, err
	}
	machine.Secret = w.secret(backend, machine)
	k := &kept{saved: *wanted, backend: backend, machine: machine, digest: backend.Digest(machine)}
	keepable, ok := backend.(firewall.Keepable)
	if !ok {
		return nil, fmt.Errorf("rules of the %s backend cannot be kept loaded", backend.Name())
	}
	if k.keeper, err = keepable.Keep(); err == nil && w.heard != nil {
		w.Journal.say(info, "watchdog: keeps rule set %s loaded (%s, from %s)", wanted.RuleSet, wanted.Backend, wanted.File)
	}
	return k, err
}

// keep replaces what is kept.
func (w *watchdog) keep(k *kept) {
	if w.kept != nil {
		w.kept.keeper.Close()
	}
	if w.kept = k; k != nil {
		w.saidHeld = false
	}
}

// restore loads the rules if they are not as they should be. It looks, unless it was
// told by a notice; it always looks at those of another version.
func (w *watchdog) restore(told bool) error {
	k := w.kept
	if told && !k.foreign {
		changed, err := k.keeper.Restore(k.machine)
		if err == nil && changed {
			w.sayRestored(w.gone, w.by)
		}
		return err
	}
	s, err := k.keeper.Inspect()
	if err != nil || s.Loaded && !s.Altered && (s.Digest == k.digest || k.foreign && s.Digest == k.saved.RuleSet) {
		return err
	}
	if err := k.keeper.Apply(k.machine); err != nil {
		return err
	}
	k.foreign = false
	w.sayRestored(!s.Loaded, "")
	return nil
}

// hold keeps others from changing the rules, where that is possible.
func (w *watchdog) hold() error {
	if w.OnlyLook {
		return nil
	}
	held, err := w.kept.keeper.Hold()
	if err == nil && !w.saidHeld {
		w.saidHeld = true
		if held {
			w.Journal.say(info, "watchdog: the rule set is held: others cannot remove or modify it")
		} else {
			w.Journal.say(info, "watchdog: the rule set cannot be held here: others can remove it, and then it is loaded again")
		}
	}
	return err
}

// fail says what went wrong, and has it tried again.
func (w *watchdog) fail(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	w.wait = min(max(2*w.wait, firstRetry), longestRetry)
	w.retry = time.After(w.wait)
	w.sayFailed(time.Now(), err)
}
