package iptables

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lazyregexp"
)

// Inspect reads our rules. The legacy variant's tables are read only if they are there.
//
// The counters of the status are of the times that a door was opened, by knocks and by keys.
func (b Backend) Inspect() (*firewall.Status, error) {
	loaded, found, err := b.loaded()
	var permission *firewall.PermissionError
	if err != nil && !errors.As(err, &permission) && anyList() {
		return nil, &firewall.UnreadableError{Backend: name, Err: err}
	}
	if err != nil {
		return nil, err
	}
	ours := loaded.contents()
	status := &firewall.Status{Loaded: len(ours) > 0}
	for _, at := range places {
		here := ours[at]
		if n, found := here.label(); found {
			status.Digest = n.digest
			break
		}
	}
	status.Altered = status.Loaded && (found || !ours.sound(status.Digest))
	status.Counters = loaded.counters()
	return status, ours.inspectKeys(status)
}

// loaded reads the tables of the variant that has rules of ours, and reports whether the other
// one has some, too.
func (b Backend) loaded() (loaded snapshot, both bool, err error) {
	if loaded, err = b.read(); err != nil {
		return nil, false, err
	}
	o, found, err := b.otherVariant()
	if err == nil && found && len(loaded.contents()) == 0 {
		loaded, err = o.read()
		found = false
	}
	return loaded, found, err
}

// ReadSources reads the kernel's lists of sources. A list holds as many as xt_recent lets it,
// and all are read: the status is never partial.
func (b Backend) ReadSources(status *firewall.Status) error {
	loaded, _, err := b.loaded()
	if err != nil {
		return err
	}
	now, err := readClock()
	if err != nil {
		return fmt.Errorf("the kernel does not tell the time: %w", err)
	}
	ours := loaded.contents()
	key := ours.key()
	status.Progress, status.Grants = nil, nil
	for name, window := range ours.windows() {
		all, err := readList(name, now)
		if err != nil {
			return err
		}
		addList(status, key, name, window, now, all)
	}
	slices.SortFunc(status.Progress, func(a, b firewall.Progress) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.State, b.State))
	})
	slices.SortFunc(status.Grants, func(a, b firewall.Grant) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.ID, b.ID))
	})
	return ours.readOpened(status.Keys, now)
}

// windows returns how long a source counts on each of our lists.
func (c contents) windows() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, here := range c {
		for _, one := range here.chains {
			for _, rule := range one.rules {
				for _, m := range asked().FindAllStringSubmatch(rule, -1) {
					if seconds, err := strconv.Atoi(m[1]); err == nil && Ours(m[2]) {
						all[m[2]] = time.Duration(seconds) * time.Second
					}
				}
			}
		}
	}
	return all
}

// asked finds in a rule which lists it looks a source up in.
var asked = lazyregexp.New(`--rcheck --seconds (\d+) --name (\S+)`)

// addList adds a list to a status.
func addList(status *firewall.Status, key *listKey, name string, window time.Duration, now clock, all []listEntry) {
	kind, id, ok := key.open(name[strings.LastIndexByte(name, '-')+1:])
	if !ok {
		return
	}
	for _, r := range all {
		left := window - r.age
		switch {
		case left <= 0:
		case kind == ofState:
			status.Progress = append(status.Progress, firewall.Progress{Source: r.source, State: automaton.StateID(id), Left: left})
		default:
			status.Grants = append(status.Grants, firewall.Grant{Source: r.source, ID: automaton.GrantID(id), Left: left, Given: now.at.Add(-r.age)})
		}
	}
}

// counters returns what the rules have counted that open doors, of both families.
func (s snapshot) counters() []firewall.Counter {
	doors := map[string]*firewall.Counter{}
	for _, at := range places {
		if s[at] == nil {
			continue
		}
		for _, c := range s[at].chains {
			if !Ours(c.name) {
				continue
			}
			for _, r := range c.rules {
				if name, found := counterOf(option(r.text, "--comment")); found {
					if doors[name] == nil {
						doors[name] = &firewall.Counter{Name: name}
					}
					doors[name].Packets += r.packets
					doors[name].Bytes += r.bytes
				}
			}
		}
	}
	var all []firewall.Counter
	for _, c := range doors {
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b firewall.Counter) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
