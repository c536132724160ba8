package preflight

import (
	"fmt"
	"slices"
	"time"

	"postern/internal/document"
	"postern/internal/key"
	"postern/internal/paragraph"
)

// people returns all findings about keys and users.
func (f *facts) people() []Finding {
	return slices.Concat(f.unverified(), f.keysFile(), f.devices(), f.expired(), f.keyPort())
}

// keysFile warns of keys that others can read, and refuses those that nobody can.
func (f *facts) keysFile() []Finding {
	switch {
	case f.keysBroken != nil:
		return []Finding{{
			Kind:     KeysUnreadable,
			Severity: Error,
			Message:  f.keysBroken.Error(),
			Hints:    []string{"restore it from a backup, or move it away and enroll the devices again: \"postern user rotate\""},
		}}
	case f.keys != nil && f.keys.Exposed:
		return []Finding{{
			Kind:     KeysReadable,
			Severity: Warning,
			Message:  fmt.Sprintf("others on this host can read %s, and with a key of it they are that user", f.keys.Path),
			Hints:    []string{fmt.Sprintf("chown root %[1]s; chmod 600 %[1]s", f.keys.Path) + ", and \"postern user rotate\" the devices if somebody may have read it"},
		}}
	}
	return nil
}

// devices warns of devices that cannot open anything, as they have no key, and notes
// keys of nobody's.
func (f *facts) devices() []Finding {
	if f.keys == nil {
		return nil
	}
	p := f.machine.Policy
	var without, unlisted []string
	listed := map[string]bool{}
	for i := range p.Users {
		for _, device := range p.Users[i].Devices {
			name := p.Users[i].Name + "/" + device
			listed[name] = true
			if f.keys.Find(name) == nil {
				without = append(without, name)
			}
		}
	}
	for i := range f.keys.Devices {
		if name := f.keys.Devices[i].Name; !listed[name] {
			unlisted = append(unlisted, name)
		}
	}
	var found []Finding
	if len(without) > 0 {
		found = append(found, Finding{
			Kind:     DeviceWithoutKey,
			Severity: Warning,
			Message:  fmt.Sprintf("no key of %s is in %s, so nothing opens for that device", someOf(without), f.keys.Path),
			Hints:    []string{"\"postern user rotate USER DEVICE\" makes one, and prints its link"},
		})
	}
	if len(unlisted) > 0 {
		found = append(found, Finding{
			Kind:     KeyWithoutDevice,
			Severity: Note,
			Message:  fmt.Sprintf("%s has a key of %s, which the policy does not list, so it opens nothing", f.keys.Path, someOf(unlisted)),
			Hints:    []string{"\"postern user revoke USER DEVICE\" removes it"},
		})
	}
	return found
}

// someOf joins names, and counts those after the first few.
func someOf(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return paragraph.List(names)
}

// expired warns of users whose time is over.
func (f *facts) expired() []Finding {
	p := f.machine.Policy
	var found []Finding
	for i := range p.Users {
		u := &p.Users[i]
		if u.Until.IsZero() || f.now.Before(u.Until) {
			continue
		}
		found = append(found, aboutLine(UserExpired, p.Diagnose(u.UntilPos,
			fmt.Sprintf("the time of user %s is over since %s: nothing opens for them", u.Name, u.Until.Format(time.DateTime)+" UTC"),
			fmt.Sprintf("write a later day, or remove the user: \"postern user revoke %s\"", u.Name))))
	}
	return found
}

// unverified refuses keys on a host that cannot verify them.
func (f *facts) unverified() []Finding {
	if f.noVerifier == nil {
		return nil
	}
	if f.tagsLast > 0 {
		return []Finding{{
			Kind:     KeysByTags,
			Severity: Warning,
			Message: fmt.Sprintf("%v, so it knows keys by tags that are loaded %s ahead: a device opens a door once in %s, and no token is bound to an address",
				f.noVerifier, document.FormatDuration(f.tagsLast.Truncate(time.Hour)), document.FormatDuration(key.Spacing)),
			Hints: []string{"the watchdog loads the next ones in time, if it runs: \"postern install\"; without it \"postern up\" must"},
		}}
	}
	return []Finding{{
		Kind:     KeysUnsupported,
		Severity: Error,
		Message:  f.noVerifier.Error() + ", so it cannot verify keys",
		Hints:    hintOf(f.noVerifier),
	}}
}

// keyPort warns of a program on the port of keys.
func (f *facts) keyPort() []Finding {
	p := f.machine.Policy
	if !slices.ContainsFunc(f.listening, p.IsKeyPort) {
		return nil
	}
	return []Finding{aboutLine(KeyPortOpen, p.Diagnose(p.Keys.Pos,
		"a program on this host listens on the port of keys: it may answer, and show that the port is special",
		"choose a port that nothing listens on"))}
}
