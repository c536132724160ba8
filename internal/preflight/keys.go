package preflight

import (
	"fmt"
	"slices"
	"strings"
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

// devices refuses to take keys away that open doors, warns of devices that cannot open
// anything, as they have no key, and notes keys of nobody's.
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
	switch lost := f.lostKeys(); {
	case len(lost) > 0:
		found = append(found, Finding{
			Kind:     KeysLost,
			Severity: Error,
			Message:  f.keysLost(lost),
			Hints:    []string{"copy the keys file from beside the policy that is loaded; or name that policy with -f, and change it there"},
		})
	case f.keys.Missing && len(without) > 0:
		found = append(found, Finding{
			Kind:     KeysMissing,
			Severity: Warning,
			Message:  fmt.Sprintf("%s does not exist, so no key opens a door: not that of %s", f.keys.Path, someOf(without)),
			Hints: []string{
				"copy it from beside the policy that its devices were enrolled for, or name that policy with -f",
				"for devices that were never enrolled, \"postern user rotate USER DEVICE\" makes a key, and prints its link",
			},
		})
	case len(without) == 1:
		found = append(found, aboutKeyless(fmt.Sprintf("no key of %s is in %s, so nothing opens for that device", without[0], f.keys.Path)))
	case len(without) > 1:
		found = append(found, aboutKeyless(fmt.Sprintf("no keys of %s are in %s, so nothing opens for these devices", someOf(without), f.keys.Path)))
	}
	const remove = "\"postern user revoke USER DEVICE\" removes it"
	switch len(unlisted) {
	case 0:
	case 1:
		found = append(found, Finding{
			Kind: KeyWithoutDevice, Severity: Note, Hints: []string{remove},
			Message: fmt.Sprintf("%s has a key of %s, which the policy does not list, so it opens nothing", f.keys.Path, unlisted[0]),
		})
	default:
		found = append(found, Finding{
			Kind: KeyWithoutDevice, Severity: Note, Hints: []string{remove},
			Message: fmt.Sprintf("%s has keys of %s, which the policy does not list, so they open nothing", f.keys.Path, someOf(unlisted)),
		})
	}
	return found
}

func aboutKeyless(message string) Finding {
	return Finding{
		Kind: DeviceWithoutKey, Severity: Warning, Message: message,
		Hints: []string{"\"postern user rotate USER DEVICE\" makes one, and prints its link"},
	}
}

// lostKeys returns the devices of the policy whose keys the loaded rules know, and the keys
// file does not. A key that was revoked or replaced is none: the rules forget it at once. Nor
// is that of a device that somebody has taken out of the policy.
func (f *facts) lostKeys() []string {
	var lost []string
	for _, use := range f.known {
		user, device, _ := strings.Cut(use.Name, "/")
		u := f.machine.Policy.User(user)
		if u == nil || !slices.Contains(u.Devices, device) || slices.Contains(lost, use.Name) {
			continue
		}
		if k := f.keys.Find(use.Name); k == nil || k.ID != use.Device {
			lost = append(lost, use.Name)
		}
	}
	slices.Sort(lost)
	return lost
}

func (f *facts) keysLost(lost []string) string {
	lacks, what := "lacks a key", "the key of "+lost[0]+", which opens doors now"
	if len(lost) > 1 {
		lacks, what = "lacks keys", fmt.Sprintf("the keys of %d devices, which open doors now: %s", len(lost), someOf(lost))
	}
	if f.keys.Missing {
		lacks = "does not exist"
	}
	return fmt.Sprintf("%s %s: this policy would take away %s", f.keys.Path, lacks, what)
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
