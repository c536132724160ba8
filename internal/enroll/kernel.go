package enroll

import (
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/change"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/key"
	"postern/internal/keyfile"
)

// Openings says what happens to what a device has opened whose key is gone.
type Openings int

const (
	KeepOpenings   Openings = iota
	TakeGrants              // what its tokens have granted is taken away
	CutConnections          // and connections from there end
)

// A Kernel is what this host runs while its users change.
type Kernel struct {
	Kept   change.State
	Survey backends.Survey
	Loaded []backends.Answer // what Survey.Loaded returned
	Spare  []netip.AddrPort  // the remote ends of connections that do not end
}

// An Effect is what the kernel knows of a change.
type Effect struct {
	Loaded *change.Saved // the policy and the keys, which it runs; nil if it does not
	Other  bool          // it runs another policy
	Waits  bool          // what it runs waits for a confirmation, and is as before
	Took   firewall.Revoked
}

// Tell has the kernel know a change of the files. Keys that are gone count no more, at
// once, whatever it runs. It runs the policy and the keys as they are now if it ran the
// policy as it was before.
func (k *Kernel) Tell(r *Result, open Openings) (e Effect, err error) {
	b := k.Loaded[0]
	if !b.Status.Loaded {
		return e, nil
	}
	if v, able := b.Backend.(firewall.KeyVerifier); able {
		for i := range r.Gone {
			if err := v.Forget(r.Gone[i].ID); err != nil {
				return e, err
			}
		}
	}
	was, err := b.Machine(r.Before)
	if err != nil {
		was = nil // another backend's policy
	}
	if open != KeepOpenings {
		if e.Took, err = k.take(k.Kept.Runs(b.Backend, b.Status, was), b, r.Gone, open); err != nil {
			return e, err
		}
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
	m.Keys = change.KeysIn(r.Keys.Path)
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
func (k *Kernel) take(m *automaton.Machine, b backends.Answer, gone []keyfile.Device, open Openings) (firewall.Revoked, error) {
	if m == nil || b.Digest(m) != b.Status.Digest {
		return firewall.Revoked{}, nil
	}
	r := firewall.Revocation{Cut: open == CutConnections, Spare: k.Spare}
	return firewall.RevokeOpened(b.Backend, m, b.Status, r, func(d key.Device) bool {
		return slices.ContainsFunc(gone, func(is keyfile.Device) bool { return is.ID == d })
	})
}
