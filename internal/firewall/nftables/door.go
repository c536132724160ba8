//go:build linux

package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// doorChains makes a chain for each door: who may have its grants, and the grants
// themselves.
func (c *compiler) doorChains() {
	c.grantChains()
	c.lastKnocks = &set{name: "doors", doc: "Where last knocks lead.", key: []datatype{nft.TypeClassID}, verdict: true}
	longestForfeit := c.longestGrant(func(d *automaton.Door) bool { return d.Forfeit })
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		if len(d.Knock.Sequence) == 0 {
			continue
		}
		ch := c.newChain("door_"+d.Name, "The last knock of the door "+d.Name+".")
		ch.add(jump(c.forget))
		c.restrict(ch, d, c.cover)
		ch.add(count(c.newCounter("door_" + d.Name)))
		c.open(ch, i)
		c.grant(ch, d, longestForfeit, c.cover)
		c.lastKnocks.elements = append(c.lastKnocks.elements, elementOf(idPart(c.opening(i)|moved)).goingTo(ch))
	}
}

// opening returns what the last knock of a door leads to. It has the name of the door's
// first grant, and so never comes to mean another door.
func (c *compiler) opening(of int) uint32 {
	return uint32(c.m.Grants[c.m.Doors[of].Grants[0]].ID) | door
}

// closing returns the same of the last knock that closes it.
func (c *compiler) closing(of int) uint32 { return c.opening(of) | shuts }

// open puts the source into the state that the door leaves it in, if that is one.
func (c *compiler) open(ch *chain, door int) {
	i := slices.IndexFunc(c.m.Edges, func(e automaton.Edge) bool { return e.Door == door && !e.Closes })
	if i < 0 || c.m.State(c.m.Edges[i].To) == nil {
		return
	}
	opened := c.m.State(c.m.Edges[i].To)
	ch.add(carryID(uint32(opened.ID)))
	for _, f := range families {
		ch.add(c.put(f, opened.Timeout))
	}
}

// restrict sends packets of sources that may not have the door's grants to another chain.
func (c *compiler) restrict(ch *chain, d *automaton.Door, others *chain) {
	if c.from[d] == nil {
		served := slices.DeleteFunc(slices.Clone(d.From), func(p netip.Prefix) bool { return !d.HasFamilyOf(p.Addr()) })
		c.from[d] = c.networks("from_"+d.Name, "The networks that may knock at the door "+d.Name+".", served)
	}
	for _, f := range families {
		if !d.HasFamilyOf(sample[f]) {
			ch.add(isFamily(f), goTo(others))
		} else if len(d.From) > 0 {
			c.within(ch, f, c.from[d][f], others)
		}
	}
	// Raw prerouting comes before the kernel's own checks of the source.
	ch.say("A multicast, broadcast or local source is not a sender.", fromNoUnicast, goTo(others))
}

// networks makes a set for each family that has any of the networks.
func (c *compiler) networks(name, doc string, all []netip.Prefix) map[family]*set {
	sets := map[family]*set{}
	split := prefixes(all)
	for _, f := range families {
		if len(split[f]) == 0 {
			continue
		}
		sets[f] = c.newSet(&set{name: name + "_" + f.suffix(), doc: doc, key: []datatype{f.datatype()}, interval: true})
		for _, p := range split[f] {
			sets[f].elements = append(sets[f].elements, prefixElement(p))
		}
	}
	return sets
}

// within sends packets of a family to another chain if they are not from one of the
// networks in a set. Without a set there is none.
func (c *compiler) within(ch *chain, f family, networks *set, others *chain) {
	if networks == nil {
		ch.add(isFamily(f), goTo(others))
		return
	}
	ch.add(notIn(networks, saddr(f, f.bits())), goTo(others))
}

// grant adds the rules that give the source the door's grants, and lead on.
func (c *compiler) grant(ch *chain, d *automaton.Door, longestForfeit time.Duration, on *chain) {
	for _, i := range d.Grants {
		g := &c.m.Grants[i]
		s := &c.m.Services[g.Service]
		ch.say("Open "+s.String()+".", carryID(uint32(g.ID)), jump(c.granting[grantChain(d)]))
	}
	if d.Forfeit {
		for _, f := range families {
			ch.add(refresh(c.live.held[f], longestForfeit, c.source(f)))
		}
	}
	ch.add(goTo(on))
}

// grantChains makes the chains that give the source the grant that the packet
// carries: one for each way to grant, as doors differ in little else.
func (c *compiler) grantChains() {
	c.granting = map[string]*chain{}
	longest := c.longestGrant(func(*automaton.Door) bool { return true })
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		name := grantChain(d)
		if c.granting[name] != nil {
			continue
		}
		ch := c.newChain(name, "The source gets the grant carried.")
		c.granting[name] = ch
		grants, uses := c.live.once, oneUse
		if d.Admit == policy.AdmitAny {
			grants, uses = c.live.many, manyUses
		}
		for _, f := range families {
			ch.add(deleteReliably(remove(grants[f], c.source(f), carried), d.OpenFor))
			ch.add(insert(grants[f], d.OpenFor, c.source(f), carried).limited(uses))
			ch.add(refresh(c.live.granted[f], longest, c.source(f)))
		}
	}
}

func grantChain(d *automaton.Door) string {
	return fmt.Sprintf("grant_%s_%s", d.Admit, durationText(d.OpenFor))
}

// admitting adds rules 1 and 2 of the automaton, and lets in what they admit.
func (c *compiler) admitting() {
	holder := c.newChain("holder", "The packet carries the grant that it needs: does its source hold it?")
	admit := c.newChain("admit", "The packet is admitted, and will be known if it comes again.")
	c.logging(admit)
	for _, f := range families {
		if c.live.syns != nil {
			c.asked.add(isFamily(f), carry(sequence), in(c.live.syns[f], synTuple(f)...), goTo(c.pass))
			admit.add(carry(sequence), insert(c.live.syns[f], automaton.AdmittedFor, synTuple(f)...))
		}
		if c.live.packets != nil {
			c.asked.add(in(c.live.packets[f], tuple(f, policy.UDP)...), goTo(c.pass))
			admit.add(insert(c.live.packets[f], automaton.AdmittedFor, tuple(f, policy.UDP)...))
			admit.add(remove(c.live.cut[f], tuple(f, policy.UDP)...))
		}
	}
	c.reopened(admit)
	admit.add(goTo(c.pass))
	c.onService(c.asked, goTo(holder))
	c.asked.add(goTo(c.spend)) // the port of a service that is hidden on another address
	c.shared(holder, admit)
	c.admits(holder, admit)
	holder.add(goTo(c.spend))
}

// logging adds the rule that logs what a door lets in, by the grant that the packet
// carries. Nothing is logged on the way of a packet that may be answered: the line
// would take time, and say which port is a knock.
func (c *compiler) logging(admit *chain) {
	if c.p.Log.Target == policy.LogNone {
		return
	}
	logged := c.newSet(&set{
		name: "logged", doc: "Whose log line: grant -> door.", key: []datatype{nft.TypeClassID}, verdict: true,
	})
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		ch := c.newChain("log_"+d.Name, "")
		ch.add(logRate, logLine(c.p.Log, "Knock accepted!: "+d.Name+" "))
		for _, g := range d.Grants {
			logged.elements = append(logged.elements, elementOf(idPart(uint32(c.m.Grants[g].ID))).jumpingTo(ch))
		}
	}
	admit.add(verdict(logged, carried))
}

// admits adds the rules that admit a packet whose source holds the grant that it
// carries.
func (c *compiler) admits(ch, admit *chain) {
	for _, f := range families {
		if c.live.many != nil {
			ch.add(in(c.live.many[f], c.source(f), carried), goTo(admit))
		}
		if c.live.once != nil {
			ch.add(
				in(c.live.once[f], c.source(f), carried),
				deleteReliably(remove(c.live.once[f], c.source(f), carried), c.shortestGrant()),
				goTo(admit),
			)
		}
	}
}

// shared makes the chains for services that several doors open, and leads there
// from holder. Each door has a grant of its own, so that it takes along what it
// granted when it goes. They are asked for one after the other, but only for
// sources that have a grant: a scan must cost the same however many doors there
// are.
func (c *compiler) shared(holder, admit *chain) {
	shared := &set{
		name: "shared", doc: "The services that several doors open, each by its first grant.",
		key: []datatype{nft.TypeClassID}, verdict: true,
	}
	var try *chain
	for i := range c.m.Services {
		s := &c.m.Services[i]
		if len(s.Grants) == 1 {
			continue
		}
		if try == nil {
			try = c.newChain("shared", "Does the source hold the grant carried? If not, the next one is tried.")
			c.admits(try, admit)
		}
		first := uint32(c.m.Grants[s.Grants[0]].ID)
		name := fmt.Sprintf("shared_%08x", first)
		ch := c.newChain(name, "Several doors open "+s.String()+".")
		each := c.newChain(name+"_each", "")
		for _, f := range families {
			ch.add(in(c.live.granted[f], c.source(f)), goTo(each))
		}
		for _, g := range s.Grants {
			each.add(carryID(uint32(c.m.Grants[g].ID)), jump(try))
		}
		ch.add(goTo(c.spend))
		each.add(goTo(c.spend))
		shared.elements = append(shared.elements, elementOf(idPart(first)).goingTo(ch))
	}
	if len(shared.elements) > 0 {
		c.newSet(shared)
		holder.add(verdict(shared, carried))
	}
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
// forfeit and the packet is not what its door spares, and looks up the state of the
// source again.
func (c *compiler) forfeiting(ports, echo *inputKind) {
	if c.live.held == nil {
		return
	}
	c.forfeit = c.newChain("forfeit", "A stray packet: the source loses its grants for doors with forfeit.")
	if len(ports.kept.elements) > 0 {
		c.forfeit.add(in(ports.kept, ports.after(carried)...), returns)
	}
	if len(echo.kept.elements) > 0 {
		for _, f := range families {
			c.forfeit.add(isEcho(f), in(echo.kept, echo.after(carried)...), returns)
		}
	}
	shortest := c.shortestGrant()
	for i := range c.m.Grants {
		g := &c.m.Grants[i]
		s := &c.m.Services[g.Service]
		if !s.Forfeit {
			continue
		}
		grants := c.live.once
		if s.Admit == policy.AdmitAny {
			grants = c.live.many
		}
		c.forfeit.add(carryID(uint32(g.ID)))
		for _, f := range families {
			c.forfeit.add(deleteReliably(remove(grants[f], c.source(f), carried), shortest))
		}
	}
	for _, f := range families {
		c.forfeit.add(remove(c.live.held[f], c.source(f)))
	}
	c.forfeit.add(carryID(uint32(automaton.Root)))
	for _, f := range families {
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
