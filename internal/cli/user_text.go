package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/document"
	"postern/internal/enroll"
	"postern/internal/policy"
)

const (
	shortUser = "add people whose keys open doors, and revoke them"
	longUser  = `A user is a person, with one or several devices. Each device has a key of its
own, in keys.yaml beside the policy; the policy says who there is and which doors
are whose. A key opens a door with one packet, which nobody can use a second time.`
	exampleUser = `  postern user add alice laptop --door ssh
  postern user list
  postern user revoke alice laptop`

	shortUserAdd = "add a user, or a device to a user, and print its link"
	longUserAdd  = `Adds a user with a device, or another device to a user, gives it a key and prints
its link, for "postern add" on the device. On a terminal it is drawn as a QR code,
too. The policy and the keys file are changed; comments stay. If the policy was
loaded, the kernel knows the key at once, and takes it after five seconds.

For a user who is there already, --door adds doors, and --network and --until
replace what was said before; they are for all devices of the user. Without a new
DEVICE no key changes.

On a host with several public addresses say with --host which one, or which name,
clients use. It is kept in the keys file for later links to the same doors.

The link is the key: give it to its user alone, over a channel that others cannot
read. "postern user show" prints it again.`
	exampleUserAdd = `  postern user add alice laptop --door ssh --until 2027-06-30
  postern user add alice desktop
  postern user add alice --door web
  postern user add bob --door ssh,web --network 203.0.113.0/24`
	flagUserDoor = "let the user open this `DOOR`, or several; the policy's only one if left out"
	flagNetwork  = "take the user's keys from this `NETWORK` only, or from several"
	flagUntil    = "take the user's keys to the end of this `DAY` (UTC), or to a time"
	flagUserQR   = "draw links as QR codes; without it, where all of it fits on the screen"

	shortUserList = "list users, their devices and doors"
	longUserList  = "Lists the users of the policy, and which of their devices have a key."

	shortUserShow   = "print the links of a user's devices again"
	longUserShow    = "Prints the links of a user's devices, or of one of them, as \"postern user add\" does."
	exampleUserShow = `  postern user show alice laptop`

	shortUserRotate = "give a device another key, and print its link"
	longUserRotate  = `Gives a device another key, and prints its link. The old key counts no more at
once. Use it for a device that was lost and found, or that has no key yet.`
	exampleUserRotate = `  postern user rotate alice laptop`

	shortUserRevoke = "take away the key of a device, or of all devices of a user"
	longUserRevoke  = `Takes away the key of a device, or of all devices of a user, and removes them
from the policy. The keys count no more at once, in the kernel, whichever policy it
runs, and what they have opened is shut: for everyone behind the same address, who
may open it again. Connections go on, unless --cut ends those, too. Others through
the same doors, which may be somebody else's, go on in any case, and are listed;
the connection you are logged in by is kept.
All that is done first: it fails, and says so, if the files cannot be changed then.

A user without whom nobody could open some door stays in the policy, without a key.`
	exampleUserRevoke = `  postern user revoke alice laptop
  postern user revoke alice --cut`
	flagUserCut = "end the connections, too, that go through these doors from where the keys opened them"
)

var errWhichUser = errors.New("which user?")

var headUsers = []string{"USER", "DEVICE", "KEY", "DOORS", "UNTIL"}

// text says whether the device has a key.
func (d listedDevice) text() string {
	if d.Key {
		return "yes"
	}
	return "none"
}

func (u *listedUser) untilText() string {
	switch {
	case u.Until == nil:
		return "-"
	case u.Expired:
		return policy.FormatUntil(*u.Until) + ", over"
	}
	return policy.FormatUntil(*u.Until)
}

func (s *session) sayNoUsers() {
	s.Say("the policy has no users")
	s.Hint("\"postern user add NAME DEVICE\" adds one")
}

func exposedKeys(path string) ui.Remark {
	r := exposed(path)
	r.Hints = []string{fmt.Sprintf("chown root %[1]q; chmod 600 %[1]q", path)}
	return r
}

func notEditable() *ui.Failure {
	return &ui.Failure{Code: ui.CodeUsage, Message: "a policy from standard input cannot be changed", Hints: []string{"name its file with -f"}}
}

// notTold says that the files are changed, and the kernel knows it only in part, or it is
// not saved; nil if all is done. Repeating the command would change the files again.
func (u *usersChange) notTold() *ui.Failure {
	if u.untold == nil {
		return nil
	}
	why := ui.Explain(u.untold)
	f := &ui.Failure{Code: why.Code, Diagnostics: why.Diagnostics, Err: u.untold}
	if u.Loaded != nil {
		f.Message = "the files are changed, and " + why.Message
		f.Hints = []string{"once that is repaired, save the policy: \"postern up\"", hintWatchdog}
		return f
	}
	f.Message = "the files are changed, but the kernel does not know all of it: " + why.Message
	f.Hints = append(slices.Clone(why.Hints), "once that is repaired, load them: \"postern up\"")
	return f
}

// untilOver is about a time that ends a user's keys before they count.
func untilOver(user string, end time.Time) *ui.Failure {
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("--until: the time was over at %s: the key would open nothing", utc(end)),
		Hints: []string{fmt.Sprintf("write a day to come; \"postern user revoke %s\" ends a user's keys now", user)}}
}

func utc(t time.Time) string { return t.UTC().Format(time.DateTime) + " UTC" }

func noKey(user, device string) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("%s/%s has no key", user, device),
		Hints: []string{fmt.Sprintf("\"postern user rotate %s %s\" gives it one", user, device)}}
}

func noDevice(u *policy.User, device string) *ui.Failure {
	if device == "" {
		return &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("no device of %s has a key", u.Name),
			Hints: []string{fmt.Sprintf("\"postern user rotate %s DEVICE\" gives it one; the user has %s", u.Name, ui.List(u.Devices))}}
	}
	return &ui.Failure{Code: ui.CodeUsage, Message: fmt.Sprintf("user %s has no device %s", u.Name, document.Quoted(device)),
		Hints: []string{"the user has " + ui.List(u.Devices)}}
}

// sayLink says where one of several links leads.
func (s *session) sayLink(d linkedDevice, l deviceLink) {
	s.Say("%s/%s, door %s, %s:", d.User, d.Device, l.Door, l.of.Service)
}

func hintNewDoor(user string) string {
	return fmt.Sprintf("each device needs a link to the new door: \"postern user show %s\" prints all", user)
}

// sayEachLink says what to do with several links of a device, and reports whether it has
// several.
func (s *session) sayEachLink(d linkedDevice) bool {
	if len(d.Links) < 2 {
		return false
	}
	s.Hint(fmt.Sprintf("each of the %d links, or codes, is for one service: save all of them on %s, each with \"postern add - NAME\"", len(d.Links), d.Device))
	return true
}

// linesBelowLink is how many lines sayEnrolled prints at most, usually, and the prompt.
const linesBelowLink = 6

func (s *session) sayEnrolled(c *usersChange, devices []linkedDevice) {
	for _, d := range devices {
		s.Say("the link is the key of %s/%s: anyone who has it is %s to this host", d.User, d.Device, d.User)
		if !s.sayEachLink(d) {
			s.Hint("save it on the device: \"postern add - NAME\" reads it from standard input")
		}
	}
	if c.untold == nil {
		s.sayKnown(c)
	}
	for i := range c.Policy.Users {
		if u := &c.Policy.Users[i]; len(devices) > 0 && u.Name == devices[0].User && !u.Until.IsZero() && !time.Now().Before(u.Until) {
			s.Warn(ui.Remark{Message: fmt.Sprintf("the time of %s is over since %s: the key opens nothing", u.Name, utc(u.Until))})
		}
	}
}

// sayKnown says what the kernel knows of a change.
func (s *session) sayKnown(c *usersChange) {
	switch {
	case c.Loaded != nil:
		s.Say("changed %s, and the rules that are loaded", document.QuotedPath(s.file))
	case c.Waits:
		s.Say("changed %s; the rules that are loaded wait for a confirmation, and are as before", document.QuotedPath(s.file))
		s.Hint("\"postern confirm\" keeps them; then load the change: \"postern up\"")
	case c.Other:
		s.Say("changed %s; the rules that are loaded are of another policy", document.QuotedPath(s.file))
		s.Hint("load this one: \"postern up\"")
	default:
		s.Say("changed %s; no rules are loaded", document.QuotedPath(s.file))
		s.Hint("load them: \"postern up\"")
	}
}

// oldKeyCounts says of a key that could not be replaced that it counts.
func oldKeyCounts(err error, args []string) error {
	if _, refused := errors.AsType[*enroll.Error](err); err == nil || refused {
		return err
	}
	f := ui.Explain(err)
	if f.Code != ui.CodeUsage {
		f.Hints = append(f.Hints, fmt.Sprintf("the old key counts as before; \"postern user revoke %s\" ends it, in the kernel at least", strings.Join(args, " ")))
	}
	return f
}

// failure says what could not be changed, and what that means; nil if all was.
func (u *usersChange) failure(out *enroll.Out) *ui.Failure {
	who := out.User
	if out.Device != "" {
		who += "/" + out.Device
	}
	var f *ui.Failure
	about := func(err error, message, hint string) {
		if err == nil {
			return
		}
		why := ui.Explain(err)
		if message != "" {
			message += ": "
		}
		why = &ui.Failure{Code: why.Code, Message: message + why.Message, Hints: why.Hints, Diagnostics: why.Diagnostics, Err: err}
		if hint != "" {
			why.Hints = append(slices.Clone(why.Hints), hint)
		}
		if f == nil {
			f = why
			return
		}
		f.Message += "; " + why.Message
		f.Hints, f.Diagnostics = append(f.Hints, why.Hints...), append(f.Diagnostics, why.Diagnostics...)
	}
	repeat := "mend that, and repeat the command"
	about(u.shut.Keys, "the kernel may take keys of "+who+" still", "\"postern down\" ends all keys, and hides nothing any more")
	about(u.shut.Open, "what "+who+" has opened last stays open until its time is over", "\"postern revoke\" takes grants, once the rules are known: \"postern up\" loads the policy")
	about(u.unchanged, "in the kernel the key counts no more, but the files have it still, and would bring it back with \"up\", the watchdog or a reboot", repeat)
	if u.Result != nil {
		about(u.Unlisted, "the key is gone, but "+out.User+" stays in the policy, without one", repeat)
	}
	if untold := u.notTold(); untold != nil {
		about(untold, "", "")
	}
	return f
}

func (s *session) sayUserRevoked(r revokedUser, c *usersChange) {
	switch {
	case len(r.Devices) == 0 && c.Result != nil:
		s.Say("removed %s, who had no key", r.User)
	case len(r.Devices) == 0:
	case len(c.shut.Devices) > 0 || c.Loaded != nil || c.Other || c.Waits:
		s.Say("%s of %s counts no more", keyOf(r.Devices), r.User)
	default:
		s.Say("%s of %s is gone", keyOf(r.Devices), r.User)
	}
	s.sayShut(r)
	if c.Result == nil || c.Unlisted != nil {
		return
	}
	if c.Stays != "" {
		s.Warn(ui.Remark{Message: fmt.Sprintf("%s stays in the policy, without a key: nobody else opens door %s", r.User, c.Stays)})
	}
	if len(c.ByHand) > 0 {
		s.Warn(ui.Remark{Message: fmt.Sprintf("%s stays in the policy, without a key: it is written in a way that postern cannot edit", r.User), Hints: c.ByHand})
	}
	if c.untold == nil {
		s.sayKnown(c)
	}
}

// sayShut says what of a revoked user's was open.
func (s *session) sayShut(r revokedUser) {
	if r.Grants > 0 {
		s.Say("took away %s", ui.Count(r.Grants, "grant"))
	}
	s.warnPartial(r.Partial)
	if r.Cut != nil {
		s.Say("ended %s", ui.Count(r.Cut.Connections, "connection"))
		s.warnMayGoOn(r.Cut)
		s.sayKept(r.Cut)
		s.sayGoOn(r.Cut.Left)
	}
}

func keyOf(devices []string) string {
	if len(devices) == 1 {
		return "the key of device " + devices[0]
	}
	return "each key (" + strings.Join(devices, ", ") + ")"
}
