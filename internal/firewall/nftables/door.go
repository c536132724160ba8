//go:build linux

package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// doorChains makes a chain for each door: who may have its grants, the log line
// and the grants themselves.
func (c *compiler) doorChains() {
	c.doors = make([]*chain, len(c.m.Doors))
	granting := map[string]*chain{} // by what is granted; only where doors share it
	shared := map[string]int{}
	shortest := c.shortestGrant()
	for i := range c.m.Doors {
		shared[grantKey(&c.m.Doors[i])]++
	}
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		ch := c.newChain("door_"+d.Name, "The last knock of the door "+d.Name+".")
		c.doors[i] = ch
		c.restrict(ch, d)
		ch.add(count(c.newCounter("door_" + d.Name)))
		if c.p.Log.Target != policy.LogNone {
			ch.add(logRate, logLine(c.p.Log, "Knock accepted!: "+d.Name+" "))
		}
		if opened := c.opened(i); opened != nil {
			ch.add(carryID(uint32(opened.ID)))
			for _, f := range families {
				ch.add(insert(c.live.at[f], opened.Timeout, c.source(f)).with(carried))
			}
		}
		key := grantKey(d)
		if shared[key] == 1 {
			c.grant(ch, d, shortest)
			continue
		}
		if granting[key] == nil {
			granting[key] = c.newChain("grant_"+d.Name, "What several doors open.")
			c.grant(granting[key], d, shortest)
		}
		ch.add(goTo(granting[key]))
	}
}

// grantKey identifies what a door grants: the same for doors that grant the same.
func grantKey(d *automaton.Door) string { return fmt.Sprint(d.Services, d.OpenFor) }

// opened returns the state that the door leaves a source in, or nil.
func (c *compiler) opened(door int) *automaton.State {
	i := slices.IndexFunc(c.m.Edges, func(e automaton.Edge) bool { return e.Door == door })
	return c.m.State(c.m.Edges[i].To)
}

// restrict refuses sources that may not have the door's grants.
func (c *compiler) restrict(ch *chain, d *automaton.Door) {
	from := prefixes(d.From)
	for _, f := range families {
		switch {
		case !d.HasFamilyOf(sample[f]) || len(d.From) > 0 && len(from[f]) == 0:
			ch.add(isFamily(f), goTo(c.cover))
		case len(from[f]) > 0:
			s := c.newSet(&set{
				name: "from_" + d.Name + "_" + f.suffix(), doc: "The networks that may knock at the door " + d.Name + ".",
				key: []datatype{f.datatype()}, interval: true,
			})
			for _, p := range from[f] {
				s.elements = append(s.elements, prefixElement(p))
			}
			ch.add(notIn(s, saddr(f, f.bits())), goTo(c.cover))
		}
	}
	// Raw prerouting comes before the kernel's own checks of the source.
	ch.say("A multicast, broadcast or local source is not a sender.", fromNoUnicast, goTo(c.cover))
}

// grant returns the source the door's grants, none of which lives shorter than
// shortest, and refuses the packet.
func (c *compiler) grant(ch *chain, d *automaton.Door, shortest time.Duration) {
	for _, i := range d.Services {
		s := &c.m.Services[i]
		ch.say("Open "+s.String()+".", carryID(uint32(s.ID)))
		for _, f := range families {
			if !d.HasFamilyOf(sample[f]) {
				continue
			}
			grants, uses := c.live.once, oneUse
			if s.Admit == policy.AdmitAny {
				grants, uses = c.live.many, manyUses
			}
			ch.add(deleteReliably(remove(grants[f], c.source(f), carried), shortest))
			ch.add(insert(grants[f], d.OpenFor, c.source(f), carried).limited(uses))
		}
	}
	if d.Forfeit {
		for _, f := range families {
			ch.add(refresh(c.live.held[f], c.longestForfeit(), c.source(f)))
		}
	}
	ch.add(goTo(c.cover))
}

// admitting adds rules 1 and 2 of the automaton, and lets in what they admit.
func (c *compiler) admitting(a *inputKind) {
	holder := c.newChain("holder", "The packet carries the service that it addresses: does its source hold a grant?")
	admit := c.newChain("admit", "The packet is admitted, and will be known if it comes again.")
	for _, f := range families {
		if c.live.syns != nil {
			c.asked.add(isFamily(f), carry(sequence), in(c.live.syns[f], synTuple(f)...), goTo(c.pass))
			admit.add(carry(sequence), insert(c.live.syns[f], automaton.AdmittedFor, synTuple(f)...))
		}
		if c.live.packets != nil {
			c.asked.add(in(c.live.packets[f], tuple(f, policy.UDP)...), goTo(c.pass))
			admit.add(insert(c.live.packets[f], automaton.AdmittedFor, tuple(f, policy.UDP)...))
		}
		if c.live.many != nil {
			holder.add(in(c.live.many[f], c.source(f), carried), goTo(admit))
		}
		if c.live.once != nil {
			holder.add(
				in(c.live.once[f], c.source(f), carried),
				deleteReliably(remove(c.live.once[f], c.source(f), carried), c.shortestGrant()),
				goTo(admit),
			)
		}
	}
	admit.add(goTo(c.pass))
	c.onService(c.asked, goTo(holder))
	c.progress(c.asked, a) // the port of a service that is hidden on another address
	c.progress(holder, a)
}

// tuple is a packet's addresses and ports.
func tuple(f family, p policy.Protocol) []field {
	return []field{saddr(f, f.bits()), sport(p), daddr(f), dport(p)}
}

// synTuple is a SYN's, with its sequence number, which the packet carries.
func synTuple(f family) []field { return append(tuple(f, policy.TCP), carried) }

// originalTuple is the same as it was before any DNAT.
func originalTuple(f family, p policy.Protocol) []field {
	return []field{saddr(f, f.bits()), sport(p), originalDaddr(f), originalPort}
}

// forfeiting makes the chain that deletes a source's grants, if any door has
// forfeit, and looks up the state of the source again.
func (c *compiler) forfeiting() {
	if c.live.held == nil {
		return
	}
	c.forfeit = c.newChain("forfeit", "A stray packet: the source loses its grants for doors with forfeit.")
	shortest := c.shortestGrant()
	for i := range c.m.Services {
		s := &c.m.Services[i]
		if !s.Forfeit {
			continue
		}
		grants := c.live.once
		if s.Admit == policy.AdmitAny {
			grants = c.live.many
		}
		c.forfeit.add(carryID(uint32(s.ID)))
		for _, f := range families {
			c.forfeit.add(deleteReliably(remove(grants[f], c.source(f), carried), shortest))
		}
	}
	for _, f := range families {
		c.forfeit.add(remove(c.live.held[f], c.source(f)))
		c.forfeit.add(carryFrom(c.live.at[f], c.source(f)))
	}
}

// sample is an address of each family, to ask what depends on the family alone.
var sample = map[family]netip.Addr{
	ipv4: netip.AddrFrom4([4]byte{192, 0, 2, 1}),
	ipv6: netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 1}),
}

// prefixElement is a prefix in an interval set.
func prefixElement(p netip.Prefix) element {
	e := element{text: p.String(), key: p.Masked().Addr().AsSlice()}
	if p.IsSingleIP() {
		e.text = p.Addr().String()
	}
	e.end = slices.Clone(e.key)
	for i := p.Bits(); i < p.Addr().BitLen(); i++ {
		e.end[i/8] |= 1 << (7 - i%8)
	}
	for i := len(e.end) - 1; i >= 0; i-- { // the first address after it
		e.end[i]++
		if e.end[i] != 0 {
			return e
		}
	}
	e.end = nil
	return e
}
