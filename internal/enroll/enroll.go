// Package enroll changes who may open which door: the users of a policy file and the
// keys of their devices, which are in a file beside it.
//
// The policy is edited as text, so that comments stay. The keys are written first: a
// process that dies in between leaves a key that opens nothing, and never a user that
// the policy lists and nobody has heard of.
package enroll

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/document"
	"postern/internal/keyfile"
	"postern/internal/paragraph"
	"postern/internal/policy"
	"postern/internal/rewrite"
)

// An Error says why nobody was enrolled or revoked, and what to do.
type Error struct {
	Message string
	Usage   bool // a name was given that nothing has, or one is missing
	remedy  []string
}

func (e *Error) Error() string   { return e.Message }
func (e *Error) Hints() []string { return e.remedy }

func refuse(hint, format string, args ...any) *Error {
	return &Error{Message: fmt.Sprintf(format, args...), remedy: []string{hint}}
}

// misnamed refuses a name that was given, or that is missing.
func misnamed(hint, format string, args ...any) *Error {
	e := refuse(hint, format, args...)
	e.Usage = true
	return e
}

// Files are the files that are changed.
type Files struct {
	Policy, Keys string
	Host         string // under which clients reach the doors of who is enrolled; "": as before
	// Check says what is wrong with a policy that the files are about to have, besides
	// what its text says.
	Check func(*policy.Policy) error
}

// A Result is what the files have become.
type Result struct {
	File           string // of the policy
	Before, Policy *policy.Policy
	Text           []byte // of the policy
	Keys           *keyfile.File
	New            []keyfile.Device // with new keys
	Gone           []keyfile.Device // whose keys count no more
	Stays          string           // the door that nobody could open without the revoked user, who stays in the policy
	ByHand         []string         // what to change in the policy by hand: the keys are gone all the same
	Unlisted       error            // why the policy is as before, though the keys are gone; then Policy may be nil
}

// change changes both files.
func (f *Files) change(do func(*Result) error) (*Result, error) {
	r, err := f.try(do)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// try is change that returns how far it has come, beside an error.
func (f *Files) try(do func(*Result) error) (*Result, error) {
	r := &Result{File: f.Policy}
	_, err := rewrite.File(f.Policy, rewrite.KeepMode, func(text []byte) ([]byte, error) {
		if text == nil {
			return nil, &fs.PathError{Op: "open", Path: f.Policy, Err: fs.ErrNotExist}
		}
		var err error
		if r.Before, err = policy.Parse(f.Policy, text); err != nil {
			return nil, err
		}
		_, err = keyfile.Change(f.Keys, func(keys *keyfile.File) error {
			r.Policy, r.Keys = r.Before.Clone(), keys
			if err := do(r); err != nil {
				return err
			}
			r.Text, r.Policy, err = policy.Edit(f.Policy, text, r.Before, r.Policy)
			if by, ok := errors.AsType[*policy.UneditableError](err); ok && len(r.New) == 0 {
				r.Text, r.Policy, r.ByHand, err = text, r.Before, by.Lines, nil
			}
			if err != nil {
				return err
			}
			return f.Check(r.Policy)
		})
		return r.Text, err
	})
	return r, err
}

// A Wish is what a user is to have. What is empty stays as it is, or as it is by
// default.
type Wish struct {
	User, Device string
	Doors        []string
	Networks     []netip.Prefix
	Until        time.Time
}

// defaultDevice is the name of a device that was given none.
const defaultDevice = "device"

// more reports whether the wish is about the user, and not only about a device.
func (w *Wish) more() bool { return len(w.Doors) > 0 || len(w.Networks) > 0 || !w.Until.IsZero() }

// Add adds a user with a device, or a device to a user, and gives it a key. A device
// that has a key keeps it, if more is wished for.
func (f *Files) Add(w Wish) (*Result, error) {
	if fault := policy.CheckName("user", w.User); fault != nil {
		return nil, misnamed(fault.Hint, "%s", fault.Message)
	}
	if fault := policy.CheckName("device", w.Device); w.Device != "" && fault != nil {
		return nil, misnamed(fault.Hint, "%s", fault.Message)
	}
	return f.change(func(r *Result) error {
		p := r.Policy
		u := p.User(w.User)
		switch {
		case u == nil:
			if len(w.Doors) == 0 {
				door, err := onlyDoor(p)
				if err != nil {
					return err
				}
				w.Doors = []string{door}
			}
			if w.Device == "" {
				w.Device = defaultDevice
			}
			p.Users = append(p.Users, policy.User{Name: w.User})
			u = &p.Users[len(p.Users)-1]
		case w.Device == "" && !w.more():
			return misnamed("name a device to add one: \"postern user add "+w.User+" DEVICE\"", "there is a user %s, with %s", w.User, paragraph.List(u.Devices))
		case w.Device != "" && slices.Contains(u.Devices, w.Device) && r.Keys.Find(w.User+"/"+w.Device) != nil:
			if !w.more() {
				return refuse(fmt.Sprintf("\"postern user show %s %s\" prints its link again", w.User, w.Device), "%s has a key already", w.User+"/"+w.Device)
			}
			w.Device = ""
		}
		if w.Device != "" && !slices.Contains(u.Devices, w.Device) {
			u.Devices = append(u.Devices, w.Device)
		}
		if len(w.Networks) > 0 {
			u.Networks = w.Networks
		}
		if !w.Until.IsZero() {
			u.Until = w.Until
		}
		for _, door := range w.Doors {
			if err := open(p, door, w.User); err != nil {
				return err
			}
		}
		if !p.HasKeys() {
			port, err := freePort(p)
			if err != nil {
				return err
			}
			p.Keys = policy.Keys{Port: port, Bound: policy.DefaultBound}
		}
		if w.Device != "" {
			r.enroll(w.User + "/" + w.Device)
		}
		f.reach(r, w.User)
		return nil
	})
}

// reach keeps the host for the links of a user's doors to come.
func (f *Files) reach(r *Result, user string) {
	for i := range r.Policy.Doors {
		if d := &r.Policy.Doors[i]; f.Host != "" && slices.Contains(d.Knock.Users, user) {
			r.Keys.SetHost(d.Name, f.Host)
		}
	}
}

// enroll gives a device a new key.
func (r *Result) enroll(name string) {
	if old := r.Keys.Find(name); old != nil {
		r.Gone = append(r.Gone, *old)
	}
	r.New = append(r.New, *r.Keys.Enroll(name))
}

// onlyDoor returns the door of a policy that has one.
func onlyDoor(p *policy.Policy) (string, error) {
	if len(p.Doors) == 1 {
		return p.Doors[0].Name, nil
	}
	return "", misnamed("name one or several with --door: "+doorNames(p), "the policy has several doors")
}

// doorNames returns the first few names of doors.
func doorNames(p *policy.Policy) string {
	var names []string
	for i := range p.Doors {
		names = append(names, p.Doors[i].Name)
	}
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + ", …"
	}
	return paragraph.List(names)
}

// open adds a user to the key list of a door.
func open(p *policy.Policy, door, user string) error {
	for i := range p.Doors {
		if k := &p.Doors[i].Knock; p.Doors[i].Name == door {
			if !slices.Contains(k.Users, user) {
				k.Users = append(k.Users, user)
			}
			return nil
		}
	}
	return misnamed("it has "+doorNames(p), "the policy has no door %s", document.Quoted(door))
}

// The ports that the port of keys is drawn from: none of those that a system takes for
// its own questions, from 32768 on, where answers to it arrive.
const firstPort, lastPort = 10000, 32767

// freePort draws a port for keys that the policy does not name.
func freePort(p *policy.Policy) (policy.Port, error) {
	for range 1000 {
		n, err := rand.Int(rand.Reader, big.NewInt(lastPort-firstPort+1))
		if err != nil {
			return policy.Port{}, err
		}
		port := policy.Port{Protocol: policy.UDP, Number: uint16(firstPort + n.Int64())}
		with := p.Clone()
		with.Keys = policy.Keys{Port: port}
		if !with.NamesKeyPort() {
			return port, nil
		}
	}
	return policy.Port{}, refuse("write \"keys: {port: udp/PORT}\" at the top of the policy", "no port was found for keys that the policy does not name")
}

// Rotate gives a device of a user another key; where the user has only one, it need not
// be named.
func (f *Files) Rotate(user, device string) (*Result, error) {
	return f.change(func(r *Result) error {
		u := r.Policy.User(user)
		switch {
		case u == nil:
			return Unknown(r.Policy, user)
		case device == "" && len(u.Devices) == 1:
			device = u.Devices[0]
		case device == "":
			return misnamed("name one: "+paragraph.List(u.Devices), "user %s has several devices", user)
		case !slices.Contains(u.Devices, device):
			return misnamed("the user has "+paragraph.List(u.Devices), "user %s has no device %s", user, document.Quoted(device))
		}
		r.enroll(user + "/" + device)
		f.reach(r, user)
		return nil
	})
}

// Unknown says that nobody has that name.
func Unknown(p *policy.Policy, user string) error {
	var names []string
	for i := range p.Users {
		names = append(names, p.Users[i].Name)
	}
	hint := "\"postern user list\" lists all"
	if near := document.Nearest(user, names); near != "" {
		hint = "did you mean " + near + "?"
	}
	return misnamed(hint, "there is no user %s", document.Quoted(user))
}

// Revoke takes the key of a device, or of all devices of a user, and removes the device
// or the user from the policy. A user without whom nobody could open some door stays
// there, without a key; and so does whoever is written there in a way that cannot be
// edited. The keys go whatever the policy is like.
func (f *Files) Revoke(user, device string) (*Result, error) {
	r, err := f.try(func(r *Result) error {
		known := r.drop(user, device)
		u := r.Policy.User(user)
		switch {
		case u == nil && !known:
			return Unknown(r.Policy, user)
		case u == nil:
			return nil
		case device != "" && !slices.Contains(u.Devices, device):
			if !known {
				return misnamed("the user has "+paragraph.List(u.Devices), "user %s has no device %s", user, document.Quoted(device))
			}
			return nil
		case device != "" && len(u.Devices) > 1:
			u.Devices = slices.DeleteFunc(u.Devices, func(d string) bool { return d == device })
			return nil
		}
		r.remove(user)
		return nil
	})
	if _, refused := errors.AsType[*Error](err); refused {
		return nil, err
	}
	if err == nil {
		return r, nil
	}
	// Perhaps the keys are gone already.
	alone := &Result{File: f.Policy, Before: r.Before, Policy: r.Before, Gone: r.Gone, Unlisted: err}
	if _, err := keyfile.Change(f.Keys, func(keys *keyfile.File) error {
		alone.Keys = keys
		alone.drop(user, device)
		return nil
	}); err != nil {
		return nil, err
	}
	if len(alone.Gone) == 0 {
		return nil, err
	}
	return alone, nil
}

// drop drops the key of a device, or of all devices of a user, and reports whether there
// was one.
func (r *Result) drop(user, device string) bool {
	known := false
	for _, d := range slices.Clone(r.Keys.Devices) {
		if d.User() == user && (device == "" || d.Name == user+"/"+device) && r.Keys.Drop(d.Name) {
			known = true
			if !slices.Contains(r.Gone, d) {
				r.Gone = append(r.Gone, d)
			}
		}
	}
	return known
}

// remove removes a user from the policy, unless a door needs one.
func (r *Result) remove(user string) {
	isUser := func(name string) bool { return name == user }
	for i := range r.Policy.Doors {
		k := &r.Policy.Doors[i].Knock
		if len(k.Sequence) == 0 && len(k.Users) == 1 && isUser(k.Users[0]) {
			r.Stays = r.Policy.Doors[i].Name
			return
		}
	}
	for i := range r.Policy.Doors {
		k := &r.Policy.Doors[i].Knock
		k.Users = slices.DeleteFunc(k.Users, isUser)
	}
	r.Policy.Users = slices.DeleteFunc(r.Policy.Users, func(u policy.User) bool { return isUser(u.Name) })
	if len(r.Policy.Users) == 0 {
		r.Policy.Keys = policy.Keys{}
	}
}
