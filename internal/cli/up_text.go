package cli

import (
	"fmt"

	"postern/internal/change"
	"postern/internal/cli/ui"
	"postern/internal/document"
)

const (
	shortUp = "load the policy into the kernel"
	longUp  = `Compiles the policy and has the kernel run it, in place of the one it may be
running. Open connections, grants and knocks in progress go on. If anything
fails, nothing changes.

It says what "postern check" says about the policy and this host. On an error it
loads nothing until you repeat it with --yes: if you are logged in over SSH and
the policy would block new logins from your address; if an interface of the
policy is a port of another one (of a bridge, say), so that nothing would be
hidden there; if a door leads to another host, and this one does not forward; if
allow opens a knock port to everyone, so that the door could never open.

The rules are nftables rules. For a kernel or an administrator with iptables
alone there is "backend: iptables" in the policy, or --backend iptables: see
"postern show --format iptables-save", and docs/limits.md for what it does less
well.

If you are logged in over the network, or with --confirm, the rules are loaded for
a time only. Log in once more, and answer the question or run "postern confirm":
otherwise what was loaded before comes back, even if your connection, the
terminal and this program are gone. A reboot loads what was loaded before, too.
Where rules wait for a confirmation already, from wherever, those that you load
wait as long again. --no-confirm ends that, and keeps what you load.

A copy of the policy is saved. With --boot, which a machine runs when it boots,
that copy is loaded and not FILE, which may have been edited since; FILE is
loaded if nothing is saved. Errors that "postern check" finds are warnings then.`
	exampleUp = `  postern up
  postern up -f examples/guard.yaml --yes`
	flagConfirm   = "load the rules for this `TIME` only, unless they are confirmed"
	flagNoConfirm = "load the rules for good, though you are logged in over the network"
	flagBoot      = "load the policy that ran last; FILE if there is none"
	flagYes       = "load the policy in spite of errors that \"postern check\" finds"
)

// notLoaded refuses a policy because of errors that were said before.
func notLoaded(errors int) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("the policy is not loaded because of %s; nothing has changed", ui.Count(errors, "error")),
		Hints:   []string{"to load it anyway, repeat with --yes"},
	}
}

const sayEitherConfirm = "--confirm goes with neither --no-confirm nor --boot"

const hintWatchdog = "the watchdog, if it runs, loads the saved policy again: \"systemctl stop postern-watchdog\" stops it"

// notSaved says that the kernel runs other rules than those that are saved.
func notSaved(err error) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("the rules are loaded, but the policy is not saved, so a reboot would load the one before: %v", err),
		Hints:   []string{"repeat it when that is repaired", hintWatchdog},
		Err:     err,
	}
}

// neverConfirmed explains why nothing is loaded at boot.
func neverConfirmed(file string) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("nothing is loaded: the policy %s was tried and not confirmed, and none ran before", document.QuotedPath(file)),
		Hints:   []string{"\"postern up\" loads it"},
	}
}

// stillWaits explains why nothing is loaded at boot, as where the unit is restarted.
func stillWaits(p *change.Pending) *ui.Failure {
	return &ui.Failure{
		Code:    ui.CodeFailed,
		Message: fmt.Sprintf("nothing has changed: the policy %s waits for a confirmation, and none ran before", document.QuotedPath(p.New.File)),
		Hints:   []string{"\"postern confirm\" keeps it, \"postern rollback\" removes it"},
	}
}

func savedInvalid(file string, err error) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("the saved policy cannot be loaded, and %s is loaded in its place: %v", document.QuotedPath(file), err),
	}
}

// text says what became of grants.
func (g grantsKept) text() string {
	switch g {
	case unchangedKept:
		return "grants of unchanged doors are kept"
	case perhapsKept:
		return "that was loaded by another version of postern, whose grants may be lost"
	}
	return "grants are kept"
}

func otherWatchdog(pid int) ui.Remark {
	return ui.Remark{
		Message: fmt.Sprintf("the watchdog that runs (process %d) is another version of postern: if others remove the rules, it loads its own", pid),
		Hints:   []string{"\"systemctl restart postern-watchdog\" starts the installed one; without systemd, stop it and start it again"},
	}
}

// sayWaited says what becomes of rules that waited for a confirmation before.
func (s *session) sayWaited(l loaded) {
	switch waits := l.Pending != nil; {
	case l.Waited == "":
	case waits && l.Waited == theseWaited:
		s.Say("they have been waiting for a confirmation, and go on waiting: the time begins anew")
	case waits:
		s.Say("other rules were waiting for a confirmation: these wait in their place, and the time begins anew")
	case l.Waited == theseWaited:
		s.Say("they have been waiting for a confirmation, and need none any more")
	default:
		s.Say("the rules that were waiting for a confirmation are gone; these need none")
	}
}

const sayRemember = "knocking hides a service; its own log-in must still be safe"

func (s *session) sayLoaded(l loaded) {
	switch l.Replaced {
	case "same":
		s.Say("%s rule set %s, which was there already", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet)
		return
	case "altered":
		s.Say("%s rule set %s, which another program had modified; %s", ui.Colour(s.ErrTTY, ui.Bold, "repaired"), l.RuleSet, l.Grants.text())
		return
	case "other":
		s.Say("%s rule set %s in place of another; %s", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet, l.Grants.text())
	default:
		s.Say("%s rule set %s", ui.Colour(s.ErrTTY, ui.Bold, "loaded"), l.RuleSet)
	}
	if l.Saved {
		s.Say("it is the policy that ran last, saved from %s", document.QuotedPath(l.File))
	}
	if l.With != "" {
		s.Say("the rules are those of %s", l.With)
	}
	for _, name := range l.TakenOut {
		s.Say("the rules of the %s backend, which held until now, are removed", name)
	}
	for i, d := range l.Doors {
		if i == mostRows && len(l.Doors) > mostRows+1 {
			s.Say("and %d more doors", len(l.Doors)-i)
			break
		}
		s.Say("door %s hides %s", d.Name, ui.List(d.Services))
	}
	if l.Replaced == "nothing" {
		s.Say(sayRemember)
	}
}
