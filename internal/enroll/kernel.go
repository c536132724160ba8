package enroll

import (
	"errors"
	"slices"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/host"
	"postern/internal/key"
	"postern/internal/keyfile"
)

// An Out says whose keys are to count no more.
type Out struct {
	User   string
	Device string // of the user; "": all
	Cut    bool   // connections end, too
}

// concerns reports whether a device, named as in "alice/laptop", is meant.
func (o *Out) concerns(name string) bool {
	user, device, _ := strings.Cut(name, "/")
	return user == o.User && (o.Device == "" || device == o.Device)
}

// A Shut is what has become in the kernel of who is shut out.
type Shut struct {
	Devices []string         // whose keys it knew, and knows no more, as in "alice/laptop"
	Keys    error            // why it may know keys still
	Took    firewall.Revoked // of what they had opened
	Open    error            // why some of that may be open still
}

// A Kernel is what this host runs while its users change.
type Kernel struct {
	Kept   change.State
	Survey backends.Survey
	Loaded []backends.Answer // what Survey.Loaded returned
	Spare  []host.Way        // what the caller is logged in by, which does not end
	Secret []byte            // this host's, for what is loaded
}

// An Effect is what the kernel knows of a change.
type Effect struct {
	Loaded *change.Saved // the policy and the keys, which it runs; nil if it does not
	Other  bool          // it runs another policy
	Waits  bool          // what it runs waits for a confirmation, and is as before
}

var errUnknownRules = errors.New("the rules that are loaded are of no policy that is known here")

// ShutOut has the kernel know keys no more: by the names that the loaded rules have for
// them, and by those of the keys file, if it can be read. It takes away what they have
// opened. The machine is the policy file's, or nil.
func (k *Kernel) ShutOut(o *Out, keysFile string, file *automaton.Machine) (s Shut) {
	b := k.Loaded[0]
	if !b.Status.Loaded {
		return s
	}
	gone := map[key.Device]bool{}
	for _, use := range b.Status.Keys {
		if o.concerns(use.Name) {
			gone[use.Device] = true
		}
	}
	if keys, err := keyfile.Read(keysFile); err == nil {
		for i := range keys.Devices {
			if d := &keys.Devices[i]; o.concerns(d.Name) {
				gone[d.ID] = true
			}
		}
	}
	if s.Keys = k.forget(gone); s.Keys == nil {
		for _, use := range b.Status.Keys {
			if gone[use.Device] && use.Name != "" && !slices.Contains(s.Devices, use.Name) {
				s.Devices = append(s.Devices, use.Name)
			}
		}
	}
	s.Took, s.Open = k.take(k.Kept.Runs(b.Backend, b.Status, file), b, gone, o.Cut)
	return s
}

// forget makes devices unknown, whichever backend runs.
func (k *Kernel) forget(gone map[key.Device]bool) (failed error) {
	for _, b := range k.Loaded {
		if v, able := b.Backend.(firewall.KeyVerifier); able {
			for id := range gone {
				failed = errors.Join(failed, v.Forget(id))
			}
		}
	}
	return failed
}

// Tell has the kernel know a change of the files. Keys that are gone count no more, at
// once, whatever it runs: also those that new ones replace and the file had lost. It runs
// the policy and the keys as they are now if it ran the policy as it was before.
func (k *Kernel) Tell(r *Result) (e Effect, err error) {
	b := k.Loaded[0]
	if !b.Status.Loaded {
		return e, nil
	}
	gone := map[key.Device]bool{}
	for i := range r.Gone {
		gone[r.Gone[i].ID] = true
	}
	for i := range r.New {
		for _, use := range b.Status.Keys {
			if use.Name == r.New[i].Name {
				gone[use.Device] = true
			}
		}
	}
	if err := k.forget(gone); err != nil || r.Unlisted != nil {
		return e, err
	}
	was, err := b.Machine(r.Before)
	if err != nil {
		was = nil // another backend's policy
	}
	e.Other = was == nil || b.Digest(was) != b.Status.Digest || len(k.Loaded) > 1
	e.Waits = !e.Other && k.Kept.Pending != nil
	if e.Other || e.Waits {
		return e, nil
	}
	e.Loaded, err = k.load(b.Backend, r)
	return e, err
}

// load has the kernel run the policy and the keys as they are now.
func (k *Kernel) load(b firewall.Backend, r *Result) (*change.Saved, error) {
	m, err := b.Machine(r.Policy)
	if err != nil {
		return nil, err
	}
	m.Keys, m.Secret = change.KeysIn(r.Keys.Path), k.Secret
	t, err := k.Survey.TakeOver(b)
	if err != nil {
		return nil, err
	}
	if _, err := t.Apply(m); err != nil {
		return nil, err
	}
	return &change.Saved{
		Loaded: true, Backend: b.Name(), RuleSet: b.Digest(m), When: time.Now(), File: r.File, Policy: string(r.Text), Keys: r.Keys.Path,
	}, nil
}

// take takes away what the keys of devices have opened.
func (k *Kernel) take(m *automaton.Machine, b backends.Answer, gone map[key.Device]bool, ends bool) (firewall.Revoked, error) {
	r := firewall.Revocation{Cut: ends, Spare: k.Spare}
	if m != nil && b.Digest(m) == b.Status.Digest {
		return firewall.RevokeOpened(b.Backend, m, b.Status, r, func(u firewall.KeyUse) bool { return gone[u.Device] })
	}
	err := firewall.ReadSources(b.Backend, b.Status)
	if slices.ContainsFunc(b.Status.Keys, func(u firewall.KeyUse) bool { return gone[u.Device] && len(u.Opened) > 0 }) {
		err = errUnknownRules
	}
	return firewall.Revoked{}, err
}
