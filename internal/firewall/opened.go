package firewall

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/host"
	"postern/internal/key"
)

// Givers are the keys that have opened doors for sources last.
type Givers map[opened]giver

type opened struct {
	door   key.Door
	source netip.Addr
}

type giver struct {
	*KeyUse
	when time.Time
}

// GiversOf returns who has opened what last.
func GiversOf(uses []KeyUse) Givers {
	last := Givers{}
	for i := range uses {
		for _, o := range uses[i].Opened {
			if at := (opened{uses[i].Door, o.Source}); o.When.After(last[at].when) {
				last[at] = giver{&uses[i], o.When}
			}
		}
	}
	return last
}

// Of returns the key that has given a grant of a door; nil if none did, as one that a knock
// or a hand has given. What a key gives and what is noted of it are of one packet, so both
// are as old; what may be between them is the time that it takes to read them.
func (all Givers) Of(g Grant, door string) *KeyUse {
	last := all[opened{key.DoorID(door), g.Source}]
	if g.Given.Sub(last.when).Abs() > time.Second {
		return nil
	}
	return last.KeyUse
}

// RevokeOpened takes away the grants that keys of some devices have given, and none that
// another's key, a knock or a hand has given since. The revocation says whether connections
// end, too: those that come from where these keys have opened the door, and nobody else's
// key has. What goes on through the same doors is in the answer. The status must be of the
// machine; what sources have earned is read anew.
func RevokeOpened(b Backend, m *automaton.Machine, status *Status, r Revocation, theirs func(KeyUse) bool) (gone Revoked, failed error) {
	by, able := b.(Granter)
	if !able {
		return gone, nil
	}
	if err := ReadSources(b, status); err != nil {
		return gone, err
	}
	gone.Partial = status.Partial
	last := GiversOf(status.Keys)
	given, others, doors := map[opened]bool{}, map[opened]bool{}, map[key.Door]bool{}
	for _, g := range status.Grants {
		grant := m.Grant(g.ID)
		if grant == nil {
			continue // its door is gone
		}
		if giver := last.Of(g, m.Doors[grant.Door].Name); giver != nil && theirs(*giver) {
			given[opened{giver.Door, g.Source}] = true
		}
	}
	for _, use := range status.Keys {
		if theirs(use) {
			doors[use.Door] = true
			continue
		}
		for _, o := range use.Opened {
			others[opened{use.Door, o.Source}] = true
		}
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		id := key.DoorID(d.Name)
		if !doors[id] {
			continue
		}
		var from []opened
		for at := range last {
			if at.door == id {
				from = append(from, at)
			}
		}
		slices.SortFunc(from, func(a, b opened) int { return a.source.Compare(b.source) })
		for _, at := range from {
			each := Revocation{Door: d, From: at.source, Keep: !given[at], Cut: r.Cut && !others[at], Spare: r.Spare}
			if each.Keep && !each.Cut {
				continue
			}
			took, err := by.Revoke(m, each)
			failed = errors.Join(failed, err)
			gone.Grants, gone.Connections, gone.Spared = gone.Grants+took.Grants, gone.Connections+took.Connections, gone.Spared+took.Spared
			gone.MayGoOn += took.MayGoOn
		}
		if !r.Cut {
			continue
		}
		left, err := by.Open(m, d)
		failed = errors.Join(failed, err)
		count := map[netip.Addr]int{}
		for _, remote := range left {
			if !slices.ContainsFunc(r.Spare, func(w host.Way) bool { return w.Remote == remote }) {
				count[remote.Addr()]++
			}
		}
		for _, a := range slices.SortedFunc(maps.Keys(count), netip.Addr.Compare) {
			gone.Left = append(gone.Left, Left{d.Name, a, count[a]})
		}
	}
	return gone, failed
}
