//go:build linux

package nftables

import (
	"fmt"
	"slices"

	nft "github.com/google/nftables"

	"postern/internal/policy"
)

// diverting fills the chains for services on other hosts. A service is looked
// up in one table however many there are.
func (c *compiler) diverting() {
	if c.divert == nil {
		return
	}
	c.keepRefused(c.divert)
	for _, f := range families {
		for _, bound := range []bool{false, true} {
			c.divertFamily(f, bound)
		}
	}
	// The SYNs that were not diverted still carry their sequence numbers.
	c.divert.add(carryID(0))
	for _, f := range families {
		c.masquerade(f)
	}
}

// divertFamily diverts to the services of a family: those of any address of this
// host, or those that are bound to one.
func (c *compiler) divertFamily(f family, bound bool) {
	table := &set{
		name: "forward" + f.suffix(), doc: "Where a hidden service really is.",
		key:  []datatype{nft.TypeInetProto, nft.TypeInetService},
		data: concat(f.datatype(), nft.TypeInetService),
	}
	where := []field{protocol, port}
	if bound {
		table.name = "forward_at" + f.suffix()
		table.key = append([]datatype{f.datatype()}, table.key...)
		where = append([]field{daddr(f)}, where...)
	}
	has := map[policy.Protocol]bool{}
	for i := range c.m.Services {
		s := &c.m.Services[i]
		if !s.Forward.IsValid() || of(s.Forward.Addr()) != f || s.Address.IsValid() != bound {
			continue
		}
		has[s.Port.Protocol] = true
		parts := portParts(s.Port)
		if bound {
			parts = append([]part{addrPart(s.Address)}, parts...)
		}
		table.elements = append(table.elements, elementOf(parts...).toAddrPort(s.Forward))
	}
	if len(table.elements) == 0 {
		return
	}
	c.newSet(table)
	if has[policy.TCP] {
		c.divert.add(carry(sequence), in(c.live.syns[f], synTuple(f)...), carryID(0), divertBy(table, f, where...))
	}
	if has[policy.UDP] {
		c.divert.add(in(c.live.packets[f], tuple(f, policy.UDP)...), divertBy(table, f, where...))
	}
	// What needs no knock for the service needs none for where it is, either.
	for i := range c.p.Allow {
		a := &c.p.Allow[i]
		if p := a.Service.Protocol; p != 0 && !has[p] || a.From.IsValid() && of(a.From.Addr()) != f {
			continue
		}
		for _, condition := range conditions(a, port) {
			if !a.From.IsValid() && !bound { // nothing else says the family
				condition = append(condition, isFamily(f))
			}
			rule := append([]statement{c.governed()}, condition...)
			// A SYN that the rule above did not want still carries its sequence number.
			c.divert.add(append(rule, toThisHost, carryID(0), divertBy(table, f, where...))...)
		}
	}
}

// masquerade returns the diverted connections of a family this host's address,
// where their services ask for it.
func (c *compiler) masquerade(f family) {
	table := &set{
		name: "masked" + f.suffix(), doc: "What is diverted and asks for it: address, protocol and port, and the port asked for.",
		key: []datatype{f.datatype(), nft.TypeInetProto, nft.TypeInetService, nft.TypeInetService},
	}
	has := map[policy.Protocol]bool{}
	for i := range c.m.Services {
		s := &c.m.Services[i]
		if !s.Masquerade || of(s.Forward.Addr()) != f {
			continue
		}
		to := policy.Port{Protocol: s.Port.Protocol, Number: s.Forward.Port()}
		e := elementOf(append(append([]part{addrPart(s.Forward.Addr())}, portParts(to)...),
			part{fmt.Sprint(s.Port.Number), portBytes(s.Port.Number)})...)
		if !slices.ContainsFunc(table.elements, func(o element) bool { return o.text == e.text }) {
			table.elements = append(table.elements, e)
		}
		has[s.Port.Protocol] = true
	}
	if len(table.elements) == 0 {
		return
	}
	c.newSet(table)
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP} {
		if has[p] {
			c.reply.add(isDiverted, isProto(p), in(table, daddr(f), protocol, dport(p), originalPort), masquerade)
		}
	}
}

// concat is the type of several values one after the other.
func concat(types ...datatype) *datatype {
	t := nft.MustConcatSetType(types...)
	return &t
}
