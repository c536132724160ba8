package iptables

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// Inspect reads our rules, and the kernel's lists of sources. The legacy variant's
// tables are read only if they are there.
//
// A list holds as many sources as xt_recent lets it, and all are read: the status is
// never partial. Its counters are one for each door, of the times that it was opened.
func (b Backend) Inspect() (*firewall.Status, error) {
	loaded, err := b.read()
	var permission *firewall.PermissionError
	if err != nil && !errors.As(err, &permission) && anyList() {
		return nil, &firewall.UnreadableError{Backend: name, Err: err}
	}
	if err != nil {
		return nil, err
	}
	o, found, err := b.otherVariant()
	if err != nil {
		return nil, err
	}
	if found && len(loaded.contents()) == 0 {
		if loaded, err = o.read(); err != nil {
			return nil, err
		}
		found = false
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
	now, err := readClock()
	if err != nil {
		return nil, fmt.Errorf("the kernel does not tell the time: %w", err)
	}
	key := ours.key()
	for name, window := range ours.windows() {
		all, err := readList(name, now)
		if err != nil {
			return nil, err
		}
		addList(status, key, name, window, all)
	}
	slices.SortFunc(status.Progress, func(a, b firewall.Progress) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.State, b.State))
	})
	slices.SortFunc(status.Grants, func(a, b firewall.Grant) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.ID, b.ID))
	})
	return status, nil
}

// windows returns how long a source counts on each of our lists.
func (c contents) windows() map[string]time.Duration {
	all := map[string]time.Duration{}
	for _, here := range c {
		for _, one := range here.chains {
			for _, rule := range one.rules {
				for _, m := range asked.FindAllStringSubmatch(rule, -1) {
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
var asked = regexp.MustCompile(`--rcheck --seconds (\d+) --name (\S+)`)

// addList adds a list to a status.
func addList(status *firewall.Status, key *listKey, name string, window time.Duration, all []listEntry) {
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
			status.Grants = append(status.Grants, firewall.Grant{Source: r.source, ID: automaton.GrantID(id), Left: left})
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
				if name, found := strings.CutPrefix(option(r.text, "--comment"), opensDoor); found {
					if doors[name] == nil {
						doors[name] = &firewall.Counter{Name: "door_" + name}
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
