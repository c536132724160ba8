package iptables

import (
	"fmt"
	"hash/fnv"
	"slices"

	"postern/internal/automaton"
)

// prefix begins the names of all chains and lists of rules beside others'.
const prefix = "POSTERN-"

// maxChain is how long the name of a chain may be (XT_EXTENSION_MAXNAMELEN, less
// its final zero), beside rules of others.
const maxChain = 28 - len(prefix)

// shortened is a name for a chain that fits and that no other chain of the table has.
// One that is too long is cut, and told apart by a hash from others that are cut alike.
func shortened(name string, taken []*chain) string {
	short := name
	for i := 0; len(short) > maxChain || slices.ContainsFunc(taken, func(c *chain) bool { return c.name == short }); i++ {
		mark := fmt.Sprintf(".%04x", sum(fmt.Sprint(name, i))&0xffff)
		short = name[:min(len(name), maxChain-len(mark))] + mark
	}
	return short
}

func sum(text string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(text))
	return h.Sum32()
}

// ofDoor is the name of something that one door has: the door's name follows
// where there are several.
func (c *compiler) ofDoor(name string, d *automaton.Door) string {
	if len(c.m.Doors) == 1 {
		return name
	}
	return name + "-" + d.Name
}

// leadsTo is the first door that a state leads to, and whether no sequence through it
// opens a door but only closes it. Doors that have come equally far share a state or not
// one, so that both distinguish the states of one depth.
func (c *compiler) leadsTo(s *automaton.State) (d *automaton.Door, closes bool) {
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		if s.Begins(d.Knock.Sequence) && (!s.Opened || len(s.Path) == len(d.Knock.Sequence)) {
			return d, false
		}
	}
	for i := range c.m.Doors {
		if d := &c.m.Doors[i]; s.Begins(d.Knock.Close) {
			return d, true
		}
	}
	return nil, false // there is no such state
}

// onlyAt reports whether the state is the only one of its kind with so many knocks.
func (c *compiler) onlyAt(s *automaton.State) bool {
	n := 0
	_, closes := c.leadsTo(s)
	for i := range c.m.States {
		o := &c.m.States[i]
		if _, also := c.leadsTo(o); len(o.Path) == len(s.Path) && o.Opened == s.Opened && closes == also {
			n++
		}
	}
	return n == 1
}

// stateName is the name of a chain or list that belongs to a state.
func (c *compiler) stateName(name string, s *automaton.State) string {
	d, closes := c.leadsTo(s)
	if closes {
		name = "C" + name
	}
	if c.onlyAt(s) {
		return name
	}
	return c.ofDoor(name, d)
}

// gateName is the chain of a source in a state.
func (c *compiler) gateName(s *automaton.State) string {
	if s.Opened {
		return c.afterName(s)
	}
	return c.stateName(fmt.Sprintf("GATE%d", len(s.Path)+1), s)
}

// afterName is the name of what belongs to an opened state.
func (c *compiler) afterName(s *automaton.State) string {
	d, _ := c.leadsTo(s)
	return c.ofDoor("AFTER", d)
}

// stateList is the list of the sources in a state. Its name beside rules of others
// lasts as long as the state's id does, whatever other doors come and go.
func (c *compiler) stateList(s *automaton.State) *recentList {
	name, shared := c.stateName(fmt.Sprintf("OK%d", len(s.Path)), s), fmt.Sprintf("OK%d", len(s.Path))
	if s.Opened {
		name, shared = c.afterName(s), "AFTER"
	}
	return &recentList{alone: c.listName(name), shared: c.sharedName(shared), kind: ofState, id: uint64(s.ID)}
}

// grantList is the list of the sources that hold a door's grant for one of its
// services. Its name beside rules of others changes with all that a grant depends
// on, as the grant's id does.
func (c *compiler) grantList(d *automaton.Door, service int) *recentList {
	s := &c.m.Services[service]
	id := c.m.Grants[d.Grants[slices.Index(d.Services, service)]].ID
	name := c.ofDoor(fmt.Sprintf("OK%d", len(d.Knock.Sequence)), d)
	if len(d.Services) > 1 {
		name += fmt.Sprintf(".%s%d", s.Port.Protocol, s.Port.Number)
	}
	t := &recentList{alone: c.listName(name), shared: c.sharedName("OPEN"), kind: ofGrant, id: uint64(id)}
	if service == d.Services[0] {
		t.door = d.Name
	}
	return t
}

// sharedName is how the name of a list begins beside rules of others. It says the mask,
// too, which a list in the kernel does not change.
func (c *compiler) sharedName(name string) string { return c.masked(c.listName(prefix + name)) }

func (c *compiler) masked(name string) string {
	if bits := c.sourceBits(); bits != c.f.bits() {
		return fmt.Sprintf("%s-%d", name, bits)
	}
	return name
}

// listName distinguishes the families' lists, which share one set of names, and keep the
// mask of the first that uses it. No door's name has a dot.
func (c *compiler) listName(name string) string {
	if c.f == IPv6 {
		return name + ".v6"
	}
	return name
}
