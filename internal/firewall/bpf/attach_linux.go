package bpf

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
)

// A place is where a program is attached.
type place struct {
	index    int // of the interface
	hook     hook
	id       ebpf.ProgramID     // or 0: a filter that is no program, and so not ours
	filter   *netlink.BpfFilter // of clsact
	instance *instance          // if it is ours
}

// A hook is a way to attach programs at the ingress of an interface.
type hook interface {
	// programs returns the programs of all users, in the order in which they run, and what
	// else decides about packets there.
	programs(link netlink.Link) ([]place, error)

	// attach attaches a program before the others; or, if old is not nil and still
	// there, in its place, in one step.
	attach(index int, i *instance, old *place) error

	// detach detaches a program, if it is still there.
	detach(p place) error
}

// hooks are those that this kernel has, the one to use first.
func hooks() []hook {
	if !onlyClsact && tcxSupported() {
		return []hook{tcx{}, clsact{}}
	}
	return []hook{clsact{}}
}

// onlyClsact is set by tests, where the kernel has tcx.
var onlyClsact bool

type found struct {
	interfaces []Interface
	places     []place
}

// places returns the interfaces of the namespace and what is attached there.
func places() (f found, err error) {
	links, err := netlink.LinkList()
	if err != nil {
		return f, fmt.Errorf("cannot list interfaces: %w", err)
	}
	slices.SortFunc(links, func(a, b netlink.Link) int { return a.Attrs().Index - b.Attrs().Index })
	vrfs, below, above, kinds := map[int]bool{}, map[int]bool{}, map[int][]int{}, map[int]string{}
	for _, link := range links {
		kinds[link.Attrs().Index] = link.Type()
	}
	for _, link := range links {
		a := link.Attrs()
		vrfs[a.Index] = link.Type() == "vrf"
		if a.MasterIndex != 0 { // a port of a bridge, say
			below[a.Index] = true
			above[a.Index] = append(above[a.Index], a.MasterIndex)
		}
		upper := link.Type() == "ipvlan" || link.Type() == "macvlan"
		if upper {
			below[a.ParentIndex] = true
		}
		// A bridge may tag the frames of a port, and those of its VLANs go on there.
		if upper || link.Type() == "vlan" && kinds[a.ParentIndex] == "bridge" {
			above[a.ParentIndex] = append(above[a.ParentIndex], a.Index)
		}
	}
	all := hooks()
	for _, link := range links {
		a := link.Attrs()
		f.interfaces = append(f.interfaces, Interface{
			Index: a.Index, Name: a.Name, vrf: vrfs[a.Index] || vrfs[a.MasterIndex], below: below[a.Index], above: above[a.Index],
			Bonded:   slices.Contains([]string{"bond", "team"}, kinds[a.MasterIndex]),
			switched: a.MasterIndex != 0 && !delivers(kinds[a.MasterIndex]),
		})
		for _, h := range all {
			here, err := h.programs(link)
			if isGone(err) {
				break // between the list and now
			}
			if err != nil {
				return f, fmt.Errorf("cannot list what is attached to %s: %w", a.Name, err)
			}
			f.places = append(f.places, here...)
		}
	}
	return f, nil
}

// delivers reports whether what comes to this host by an interface of a master's comes to the
// rules. A switch as that of Open vSwitch has rules of its own, which may translate it, or send
// it on.
func delivers(master string) bool {
	return slices.Contains([]string{"bridge", "bond", "team", "vrf"}, master)
}

// Attach makes the program run on these interfaces, in place of the one that may be
// there, and on no others. Of the programs of others it is the first, or has the
// place of the one that it replaces. An interface that is gone is left out.
//
// If it fails, interfaces that had no program have none, unless the error says so.
func (p *Program) Attach(indexes ...int) error {
	before, err := Find()
	if err != nil {
		return err
	}
	defer before.Close()
	hook := hooks()[0]
	// It may have been loaded long ago, and on other interfaces another one still runs. After a
	// kill the minute ends by itself.
	if err := p.missed(time.Minute); err != nil {
		return err
	}

	// First what can fail most easily, where nothing is.
	var added []int
	for _, index := range indexes {
		if slices.ContainsFunc(before.places, func(at place) bool { return at.index == index }) {
			continue
		}
		if err := hook.attach(index, &p.instance, nil); isGone(err) {
			continue
		} else if err != nil {
			return errors.Join(explain(err), p.detachFrom(added))
		}
		added = append(added, index)
	}
	for _, index := range indexes {
		if err := p.replace(hook, index, before.places); err != nil {
			return err
		}
	}
	for _, at := range before.places {
		if slices.Contains(indexes, at.index) {
			continue
		}
		if err := at.hook.detach(at); err != nil && !isGone(err) {
			return err
		}
	}
	if err := p.missed(0); err != nil {
		return err
	}
	return p.forget()
}

// replace puts the program in the place of the first of others of ours on an interface, and
// detaches the rest. From one hook to the other, for a moment both run.
func (p *Program) replace(hook hook, index int, before []place) error {
	before = slices.DeleteFunc(slices.Clone(before), func(at place) bool { return at.index != index })
	if len(before) == 0 {
		return nil
	}
	keep := slices.IndexFunc(before, func(at place) bool { return at.hook == hook && at.id == p.id })
	if keep < 0 {
		var old *place
		if keep = slices.IndexFunc(before, func(at place) bool { return at.hook == hook }); keep >= 0 {
			old = &before[keep]
		}
		if err := hook.attach(index, &p.instance, old); err != nil && !isGone(err) {
			return explain(err)
		}
	}
	for i, at := range before {
		if i == keep {
			continue
		}
		if err := at.hook.detach(at); err != nil && !isGone(err) {
			return err
		}
	}
	return nil
}

// detachFrom detaches the program from some interfaces.
func (p *Program) detachFrom(indexes []int) error {
	now, err := Find()
	if err != nil {
		return err
	}
	defer now.Close()
	for _, at := range now.places {
		if at.id != p.id || !slices.Contains(indexes, at.index) {
			continue
		}
		if e := at.hook.detach(at); e != nil && !isGone(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// forget deletes what is known of codes that the program does not give. No other
// program is attached that could.
func (p *Program) forget() error {
	mine := map[uint32]bool{}
	for _, pair := range p.pairs {
		mine[pair.Code] = true
	}
	uses, err := readMap[uint32, useValue](p.maps[mapUses])
	if err != nil {
		return err
	}
	for code := range uses {
		if mine[code] {
			continue
		}
		if err := p.maps[mapUses].Delete(code); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("cannot forget an old code: %w", err)
		}
	}
	return nil
}

// Detach detaches what is found in the network namespace of the calling thread, and
// removes what was made to attach it. It may be called when there is nothing.
func Detach() error {
	r, err := Find()
	if err != nil {
		return err
	}
	defer r.Close()
	for _, at := range r.places {
		if e := at.hook.detach(at); e != nil && !isGone(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}
