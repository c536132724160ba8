//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// endedFor is how long it is known that a connection was admitted after its door was closed,
// once connection tracking is about to forget it: that takes less, see isLasting.
const endedFor = 10 * time.Minute

// isLasting matches packets of connections that connection tracking remembers for long: of
// TCP, those that have not ended. What has ended is remembered for two minutes, as is a flow
// of UDP (three in older kernels); where the peer does not acknowledge data it is five, and
// else five days (Documentation/networking/nf_conntrack-sysctl.rst).
var isLasting = simple("ct expiration > 4m",
	&expr.Ct{Key: expr.CtKeyEXPIRATION, Register: register(0)},
	&expr.Byteorder{SourceRegister: register(0), DestRegister: register(0), Op: expr.ByteorderHton, Len: 4, Size: 4},
	&expr.Cmp{Op: expr.CmpOpGt, Register: register(0), Data: binary.BigEndian.AppendUint32(nil, uint32((4 * time.Minute).Milliseconds()))},
)

// ends reports whether connections to a service end as their door is closed.
func ends(s automaton.Service) bool { return s.OnClose == policy.OnCloseCut }

// closableServices makes the tables of the services whose connections end.
func (c *compiler) closableServices() {
	if c.live.closed == nil {
		return
	}
	c.closable = c.newPorts("closable", "The ports of services whose connections end as their door is closed.", func(yield func(policy.Port) bool) {
		for i := range c.m.Services {
			if s := &c.m.Services[i]; ends(*s) && !yield(s.Port) {
				return
			}
		}
	})
	c.ended = c.newServices("ending", "Which service that is: protocol and port -> service.", "The same for services of one address.")
	for i := range c.m.Services {
		if s := &c.m.Services[i]; ends(*s) {
			c.ended.put(s, uint32(s.ID))
		}
	}
}

// shut adds the rules that take from the source what a door has granted to it, and lead on.
//
// To end its connections they note the source and the service, with a number that is
// another each time. A packet of a connection passes only if that was admitted with the
// same number: so those from before stay ended when the source opens the door again.
func (c *compiler) shut(ch *chain, d *automaton.Door, on *chain) {
	grants := c.live.once
	if d.Admit == policy.AdmitAny {
		grants = c.live.many
	}
	for _, i := range d.Grants {
		g := &c.m.Grants[i]
		s := &c.m.Services[g.Service]
		ch.say("Close "+s.String()+".", carryID(uint32(g.ID)))
		for _, f := range families {
			ch.add(deleteReliably(remove(grants[f], c.source(f), carried), d.OpenFor))
		}
		if !ends(*s) {
			continue
		}
		ch.add(carryID(uint32(s.ID)), refresh(c.live.salt, sessionsFor, carried).with(numbered), carryFrom(c.live.salt, carried))
		for _, f := range families {
			ch.add(carry(c.closer(f)), remove(c.live.closed, carried).with(carried),
				insert(c.live.closed, sessionsFor, carried).with(numbered))
		}
	}
	ch.add(goTo(on))
}

// closings makes a chain for each sequence that closes a door. It writes no line to the log,
// which would have the port of the last knock.
func (c *compiler) closings() {
	for i := range c.m.Doors {
		d := &c.m.Doors[i]
		if len(d.Knock.Close) == 0 {
			continue
		}
		ch := c.newChain("close_"+d.Name, "The last knock that closes the door "+d.Name+".")
		ch.add(jump(c.forget))
		ch.add(count(c.closed(d)))
		c.shut(ch, d, c.cover)
		c.lastKnocks.elements = append(c.lastKnocks.elements, elementOf(idPart(c.closing(i)|moved)).goingTo(ch))
	}
}

// closed returns the counter of a door's closings.
func (c *compiler) closed(d *automaton.Door) string {
	name := "closed_" + d.Name
	if !slices.Contains(c.counters, name) {
		c.newCounter(name)
	}
	return name
}

// closer stands for the source of a packet and a service, whose number in salt it carries: a
// hash of both, as nft 1.0.6 cannot write to a map with a longer key. Nobody knows that
// number, so nobody finds an address with the hash of another one.
func (c *compiler) closer(f family) field {
	from := c.source(f)
	return field{
		text: fmt.Sprintf("jhash %s . %s mod %d seed 0x1", carried.text, from.text, uint32(math.MaxUint32)), bytes: 4, family: f,
		load: func(reg uint32) []expr.Any {
			load := append(carried.load(register(1)), from.load(register(2))...)
			return append(load, &expr.Hash{
				SourceRegister: register(1), DestRegister: reg, Length: uint32(carried.bytes + from.bytes), Modulus: math.MaxUint32, Seed: 1,
				Type: expr.HashTypeJenkins,
			})
		},
	}
}

// numbered is a number at random.
var numbered = field{
	text: fmt.Sprintf("numgen random mod %d", uint32(math.MaxUint32)), bytes: 4,
	load: func(reg uint32) []expr.Any {
		return []expr.Any{&expr.Numgen{Register: reg, Modulus: math.MaxUint32, Type: unix.NFT_NG_RANDOM}}
	},
}

// closers returns beginnings of rules about packets to services whose connections end. The
// packet then carries what closer computes. What is done before that knows the service.
func (c *compiler) closers(f family, before ...statement) [][]statement {
	begin := func(which statement) []statement {
		return slices.Concat([]statement{which}, before, []statement{carryFrom(c.live.salt, carried), carry(c.closer(f))})
	}
	all := [][]statement{begin(carryFrom(c.ended.any, protocol, port))}
	if at := c.ended.at[f]; at != nil {
		all = append(all, begin(carryFrom(at, daddr(f), protocol, port)))
	}
	return all
}

// closedBefore returns what matches packets to services that their source has closed, as
// beginnings of rules. The packet then carries the number of that.
func (c *compiler) closedBefore(f family) [][]statement {
	all := c.closers(f)
	for i := range all {
		all[i] = append(all[i], carryFrom(c.live.closed, carried))
	}
	return all
}

// reopened adds the rules that note what is admitted to services that its source has closed.
func (c *compiler) reopened(admit *chain) {
	for _, p := range withPorts {
		ports := c.closable[p]
		if ports == nil {
			continue
		}
		for _, f := range families {
			for _, begin := range c.closedBefore(f) {
				rule := append([]statement{in(ports, dport(p))}, begin...)
				admit.add(append(rule, refresh(c.live.since[f], endedFor, append(tuple(f, p), carried)...))...)
			}
			if p == policy.TCP { // of UDP any may have been cut
				admit.add(in(ports, dport(p)), remove(c.live.cut[f], tuple(f, p)...))
			}
		}
	}
}

// endings ends connections. The first packet of one that comes is noted in the set of those
// that are cut, by which the server's packets are known. Packets that belong to none are not
// noted: anyone who sends many would fill it.
func (c *compiler) endings() {
	if c.live.closed == nil {
		return
	}
	ended := c.newChain("ended", "The source has closed this door. Has this been admitted since?")
	for _, p := range withPorts {
		if c.closable[p] == nil {
			continue
		}
		for _, f := range families {
			since, flow := c.live.since[f], append(tuple(f, p), carried)
			ended.add(in(since, flow...), isLasting, refresh(since, sessionsFor, flow...), carryID(0), returns)
			ended.add(in(since, flow...), refresh(since, endedFor, flow...), carryID(0), returns)
		}
	}
	doc := "It stays closed for as long as anything sends: so long connection tracking knows it, too."
	for _, f := range families {
		for _, begin := range c.closers(f, refresh(c.live.salt, sessionsFor, carried).with(numbered)) {
			ended.say(doc, append(begin, refresh(c.live.closed, sessionsFor, carried).with(carried))...)
			doc = ""
		}
	}
	ended.add(carryID(0))
	if c.allow != nil {
		ended.add(jump(c.allow))
	}
	for _, p := range withPorts {
		if c.closable[p] == nil {
			continue
		}
		for _, f := range families {
			ended.add(isConfirmed, refresh(c.live.cut[f], sessionsFor, tuple(f, p)...))
			if p == policy.UDP {
				ended.add(remove(c.live.packets[f], tuple(f, p)...))
			}
		}
		if p == policy.UDP {
			ended.add(isProto(p), goTo(c.judge))
		} else {
			ended.add(isProto(p), goTo(c.refuse))
		}
	}

	closable := c.newChain("closable", "A packet that opens no connection, to a service whose connections end.")
	c.spare(closable)
	for _, f := range families {
		for _, begin := range c.closedBefore(f) {
			closable.add(append(begin, toThisHost, goTo(ended))...)
		}
	}
	closable.add(carryID(0))
	for _, p := range withPorts {
		if ports := c.closable[p]; ports != nil {
			rule := []statement{c.governed(), in(ports, dport(p)), jump(closable)}
			if p == policy.TCP {
				rule = slices.Insert(rule, 1, isNotSYN)
			}
			c.packet.add(rule...)
		}
	}
	c.silence()
}

// spare adds a rule for flows of UDP that were cut when they needed a knock, and that an
// allow entry lets in by now: what answers them may leave.
func (c *compiler) spare(closable *chain) {
	if c.allow == nil || c.closable[policy.UDP] == nil {
		return
	}
	spared := c.newChain("spared", "A flow that was cut. Does it need no knock any more?")
	for i := range c.p.Allow {
		a := &c.p.Allow[i]
		if p := a.Service.Protocol; p != 0 && p != policy.UDP {
			continue
		}
		for _, condition := range conditions(a, port) {
			for _, f := range families {
				if !a.From.IsValid() || of(a.From.Addr()) == f {
					spared.add(append(slices.Clone(condition), remove(c.live.cut[f], tuple(f, policy.UDP)...))...)
				}
			}
		}
	}
	for _, f := range families {
		closable.add(in(c.live.cut[f], tuple(f, policy.UDP)...), jump(spared))
	}
}

// silence keeps what was cut from being sent to. A TCP server is told by a RST that its
// connection has ended. What a server behind this host sends is known by what it answers.
func (c *compiler) silence() {
	if slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return ends(s) && s.Forward.IsValid() }) {
		behind := c.newChain("cut_behind", "What was cut by closing a door is sent nothing from behind this host, either.")
		c.packet.add(isAnswer, isDiverted, jump(behind))
		for _, f := range families {
			for _, p := range withPorts {
				if c.closable[p] != nil {
					behind.add(isFamily(f), isProto(p), in(c.live.cut[f], answered(f)...), silent(p))
				}
			}
		}
	}
	if c.closable[policy.TCP] != nil {
		c.output.say("What ends a connection, as the answers to blocked packets do, may go.", hasRST, accept)
	}
	for _, f := range families {
		for _, p := range withPorts {
			if ports := c.closable[p]; ports != nil {
				reversed := []field{daddr(f), dport(p), saddr(f, f.bits()), sport(p)}
				c.output.add(in(ports, sport(p)), in(c.live.cut[f], reversed...), silent(p))
			}
		}
	}
}

// silent is what becomes of a server's packet.
func silent(p policy.Protocol) statement {
	if p == policy.TCP {
		return reset
	}
	return drop
}

// answered is the tuple of the first packet of a connection.
func answered(f family) []field {
	source := originalDaddr(f)
	source.text = "ct original " + f.ip() + " saddr"
	key := expr.CtKeySRCIP
	if f == ipv6 {
		key = expr.CtKeySRCIP6
	}
	source.load = func(reg uint32) []expr.Any { return []expr.Any{&expr.Ct{Key: key, Register: reg}} }
	from := originalPort
	from.text = "ct original proto-src"
	from.load = func(reg uint32) []expr.Any { return []expr.Any{&expr.Ct{Key: expr.CtKeyPROTOSRC, Register: reg}} }
	return []field{source, from, originalDaddr(f), originalPort}
}
