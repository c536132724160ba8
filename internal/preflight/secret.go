package preflight

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
)

// hostSecret warns where this host has no secret, or others can read it, and times would tell
// the less for one.
func (f *facts) hostSecret() []Finding {
	found := Secret(f.machine, f.backend, f.noSecret)
	if o := f.secretReaders; o.Who != "" && TimingOf(f.machine, f.backend) == Narrowed {
		found = append(found, Finding{
			Kind:     SecretReadable,
			Severity: Warning,
			Message:  fmt.Sprintf("%s on this host can read %s: who has read it, and times answers, finds a sequence knock by knock", o.Who, o.Path),
			Hints:    []string{fmt.Sprintf("chmod 700 %s; chmod 600 %s", filepath.Dir(o.Path), o.Path)},
		})
	}
	return found
}

// Secret returns what there is to say of a *change.SecretError; of nil, nothing.
func Secret(m *automaton.Machine, b firewall.Backend, err error) []Finding {
	e, is := errors.AsType[*change.SecretError](err)
	switch {
	case !is || TimingOf(m, b) != Narrowed:
		return nil
	case e.Replaced:
		return []Finding{{
			Kind:     SecretReplaced,
			Severity: Warning,
			Message:  fmt.Sprintf("%v, and is another one now: who has timed answers before, and does again, can tell first knocks", e),
			Hints:    []string{"if somebody may have, write other first knocks"},
		}}
	}
	return []Finding{{
		Kind:     SecretMissing,
		Severity: Warning,
		Message:  fmt.Sprintf("%v: without this secret of the host, a neighbour who times answers finds a sequence knock by knock", e),
		Hints:    []string{secretRemedy(e) + ", and repeat \"postern up\""},
	}}
}

// secretRemedy returns what to do about a secret that cannot be read or made.
func secretRemedy(e *change.SecretError) string {
	switch dir := filepath.Dir(e.File); {
	case errors.Is(e, syscall.EROFS):
		return "make the file system of " + dir + " writable"
	case errors.Is(e, syscall.EPERM):
		return fmt.Sprintf("\"lsattr -d %s %s\" shows what is immutable: end that by \"chattr -i\"", dir, e.File)
	case errors.Is(e, syscall.EACCES):
		return fmt.Sprintf("chown root %[1]s %[2]s; chmod 700 %[1]s; chmod 600 %[2]s", dir, e.File)
	case errors.Is(e, syscall.ENOTDIR):
		return "make " + dir + " a directory"
	}
	return "move it away"
}
