package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"

	"postern/internal/key"
)

// Running is what is attached in a network namespace. It is a snapshot of which
// programs these are; what they know is read when it is asked for.
type Running struct {
	instances  []*instance // by their age, the newest last; more than one after a kill
	interfaces []Interface
	places     []place
	others     map[int]bool // the interfaces where programs or filters of others run, too
	hidden     bool         // something is attached that this process may not look at
}

// Find returns what is attached in the network namespace of the calling thread. The
// caller must close it.
func Find() (_ *Running, err error) {
	r := &Running{others: map[int]bool{}}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	found, err := places()
	if err != nil {
		return nil, err
	}
	r.interfaces = found.interfaces
	opened := map[ebpf.ProgramID]*instance{}
	for _, at := range found.places {
		if at.id == 0 {
			r.others[at.index] = true
			continue
		}
		i, ok := opened[at.id]
		if !ok {
			if i, err = open(at.id); errors.Is(err, errHidden) {
				r.hidden, err = true, nil
			} else if err != nil {
				return nil, explain(err)
			}
			opened[at.id] = i
			if i != nil {
				r.instances = append(r.instances, i)
			}
		}
		if i == nil {
			r.others[at.index] = true
			continue
		}
		at.instance = i
		r.places = append(r.places, at)
		for n := range r.interfaces {
			if r.interfaces[n].Index == at.index {
				r.interfaces[n].Attached = true
			}
		}
	}
	// The kernel counts upwards.
	slices.SortFunc(r.instances, func(a, b *instance) int { return cmp.Compare(a.id, b.id) })
	return r, nil
}

// Close lets go of the programs, which stay attached.
func (r *Running) Close() {
	for _, i := range r.instances {
		i.Close()
	}
}

// Loaded reports whether a program is attached to any interface.
func (r *Running) Loaded() bool { return len(r.instances) > 0 }

// Hidden reports whether something is attached that this process may not look at: it
// may be ours.
func (r *Running) Hidden() bool { return r.hidden }

// Interfaces returns all interfaces of the namespace, by their index.
func (r *Running) Interfaces() []Interface { return slices.Clone(r.interfaces) }

// newest returns the newest program that can be read, or nil.
func (r *Running) newest() *instance {
	if r == nil {
		return nil
	}
	for _, i := range slices.Backward(r.instances) {
		if i.readable {
			return i
		}
	}
	return nil
}

// Pairs returns what may be opened by whom, by device and door. After a kill there
// may be two programs; then it is what the newer one allows.
func (r *Running) Pairs() ([]Pair, error) {
	i := r.newest()
	if i == nil {
		return nil, nil
	}
	access, uses, err := i.allowed()
	if err != nil {
		return nil, err
	}
	pairs := make([]Pair, 0, len(access))
	for pair, code := range access {
		p := Pair{Device: pair.Device, Door: pair.Door, Code: code}
		if last := max(uses[code].Last[0], uses[code].Last[1]); last > 0 {
			p.Last = time.Unix(0, int64(last))
		}
		pairs = append(pairs, p)
	}
	sortPairs(pairs)
	return pairs, nil
}

// Carrier returns what has the codes of the newest program; false if none can be read.
func (r *Running) Carrier() (Carrier, bool) {
	var c configValue
	i := r.newest()
	if i == nil || i.maps[mapConfig].Lookup(uint32(0), &c) != nil {
		return 0, false
	}
	if c.Flags&flagInMark != 0 {
		return Mark, true
	}
	return Priority, true
}

// Counts returns what was counted since the first of the programs that followed one
// another was attached.
func (r *Running) Counts() (c Counts, err error) {
	i := r.newest()
	if i == nil {
		return c, nil
	}
	for n := range c {
		if c[n], err = i.count(n); err != nil {
			return c, err
		}
	}
	return c, nil
}

// count returns one of the things that are counted.
func (i *instance) count(what int) (n uint64, err error) {
	var each []uint64 // one for each CPU
	if err := i.maps[mapCounts].Lookup(uint32(what), &each); err != nil {
		return 0, fmt.Errorf("cannot read what is counted: %w", err)
	}
	for _, count := range each {
		n += count
	}
	return n, nil
}

// Revoke makes a device unknown, at once. It may be called for one that is unknown.
func (r *Running) Revoke(d key.Device) error {
	for _, i := range r.instances {
		devices, access := i.maps[mapDevices], i.maps[mapAccess]
		if devices == nil || devices.KeySize() != uint32(binary.Size(d)) {
			return fmt.Errorf("device %v may be known to a program of another version of Postern", d)
		}
		if err := devices.Delete(d); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("cannot revoke device %v: %w", d, err)
		}
		if !i.readable {
			continue
		}
		pairs, err := readMap[pairKey, uint32](access)
		if err != nil {
			return err
		}
		for pair := range pairs {
			if pair.Device != d {
				continue
			}
			if err := access.Delete(pair); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
				return fmt.Errorf("cannot revoke device %v: %w", d, err)
			}
		}
	}
	return nil
}
