package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// Grant puts the source on the lists of the door's grants. How long a source counts there
// is part of the rules.
func (b Backend) Grant(m *automaton.Machine, d *automaton.Door, to netip.Addr, lasts time.Duration) error {
	if lasts != d.OpenFor {
		return &firewall.FixedTimeError{Backend: name, Door: d}
	}
	key, err := b.loadedKey()
	if err != nil {
		return err
	}
	source := m.Policy.Source.Mask(to)
	var done []string
	for _, list := range grantLists(m, key, source, d) {
		if err := writeList(list, "+"+source.String()); err != nil {
			for _, list := range done {
				err = errors.Join(err, writeList(list, "-"+source.String()))
			}
			return err
		}
		done = append(done, list)
	}
	return nil
}

// Open returns the clients' ends of the connections with a door's services.
func (Backend) Open(m *automaton.Machine, d *automaton.Door) ([]netip.AddrPort, error) {
	return firewall.Open(m, d)
}

// Revoke takes sources off the lists of grants. What it cuts is known to connection
// tracking alone.
func (b Backend) Revoke(m *automaton.Machine, r firewall.Revocation) (gone firewall.Revoked, err error) {
	key, err := b.loadedKey()
	if err != nil {
		return gone, err
	}
	now, err := readClock()
	if err != nil {
		return gone, err
	}
	for i := range m.Doors {
		d := &m.Doors[i]
		if r.Keep || r.Door != nil && r.Door != d {
			continue
		}
		for _, f := range families {
			if r.From.IsValid() && !f.of(r.From) || !d.HasFamilyOf(f.sample()) {
				continue
			}
			for _, list := range grantLists(m, key, f.sample(), d) {
				all, err := readList(list, now)
				if err != nil {
					return gone, err
				}
				for _, e := range all {
					if !r.From.IsValid() || e.source == m.Policy.Source.Mask(r.From) {
						if err := writeList(list, "-"+e.source.String()); err != nil {
							return gone, err
						}
						if e.age < d.OpenFor {
							gone.Grants++
						}
					}
				}
			}
		}
	}
	if !r.Cut {
		return gone, nil
	}
	open, spared, err := r.Sessions(m)
	if err != nil {
		return gone, err
	}
	gone.Connections, gone.Spared, gone.MayGoOn = len(open), spared, firewall.WithoutSockets(m, open)
	return gone, firewall.End(open)
}

// loadedKey returns the key of the names of the lists of what is loaded.
func (b Backend) loadedKey() (*listKey, error) {
	loaded, err := b.read()
	if err != nil {
		return nil, err
	}
	if key := loaded.contents().key(); key != nil {
		return key, nil
	}
	return nil, errors.New("the rules have been removed, or do not belong together; \"postern up\" repairs them")
}

// grantLists returns the names of the lists of a door's grants, for the family of a source.
func grantLists(m *automaton.Machine, key *listKey, source netip.Addr, d *automaton.Door) (names []string) {
	f := IPv6
	if IPv4.of(source) {
		f = IPv4
	}
	c := &compiler{m: m, p: m.Policy, f: f}
	for _, service := range d.Services {
		names = append(names, c.grantList(d, service).loaded(key))
	}
	return slices.Compact(names)
}

// writeList changes a list of the kernel's: "+192.0.2.7" puts a source on it, "-192.0.2.7"
// takes it off.
func writeList(name, change string) error {
	f, err := os.OpenFile(filepath.Join(recentDir, filepath.Base(name)), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(change)
		err = errors.Join(err, f.Close())
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &firewall.PermissionError{Err: err}
	case err != nil:
		return fmt.Errorf("the kernel's list %s of grants cannot be changed: %w", name, err)
	}
	return nil
}
