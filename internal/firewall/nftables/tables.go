//go:build linux

package nftables

import (
	"iter"
	"slices"

	nft "github.com/google/nftables"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// How much the sets hold. An element costs the kernel some 100 bytes, so that a full
// table of progress takes about 100 MB; docs/measurements.md has what was measured.
const (
	// MaxProgress is how many sources may be knocking at once, in each
	// family. At 3 s a step it takes 350,000 spoofed first knocks a second
	// to fill, with every source's budget to spare.
	MaxProgress = 1 << 20
	// maxGrants and maxAdmitted are filled only by someone who knows a sequence and
	// forges a million addresses: a source with a grant may open only so
	// many connections (automaton.Connections).
	maxGrants   = 1 << 20
	maxAdmitted = 1 << 20
)

// Places returns how many sources may be knocking at once, in each family.
func (Backend) Places() int { return MaxProgress }

// Steady reports that all packets take the same rules: see walk.
func (Backend) Steady() bool { return true }

// liveSets are the sets that the packet path changes, and which therefore stay
// when rules are replaced. What a policy has no use for is nil.
type liveSets struct {
	at       map[family]*set // progress: source -> state
	many     map[family]*set // grants for services with `admit: any`
	once     map[family]*set // grants for services with `admit: one`
	granted  map[family]*set // sources with any grant
	held     map[family]*set // sources with a grant that a stray packet loses
	opened   map[family]*set // which keys have opened something: source, code
	syns     map[family]*set // admitted TCP connections
	packets  map[family]*set // admitted UDP flows
	sessions map[family]*set // TCP connections older than the rules
	cut      map[family]*set // TCP connections and UDP flows that must not go on
	closed   *set            // closings that end connections; nil where none does
	salt     *set            // of the hashes in closed
	since    map[family]*set // what was admitted after them
	budget   *set
}

// liveSets makes the sets that outlive a policy.
func (c *compiler) liveSets() {
	perFamily := func(name, doc string, size uint32, data *datatype, keys func(f family) []datatype) map[family]*set {
		sets := map[family]*set{}
		for _, f := range families {
			sets[f] = c.newSet(&set{
				name: name + f.suffix(), doc: doc, key: keys(f), data: data,
				dynamic: true, timeout: true, size: size,
			})
			doc = ""
		}
		return sets
	}
	address := func(f family) []datatype { return []datatype{f.datatype()} }
	grant := func(f family) []datatype { return []datatype{f.datatype(), nft.TypeClassID} }
	flow := func(f family) []datatype {
		return []datatype{f.datatype(), nft.TypeInetService, f.datatype(), nft.TypeInetService}
	}
	admits := func(a policy.Admit) bool {
		return slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return s.Admit == a })
	}

	c.live.at = perFamily("at", "How far the sources of the last few seconds have come: source -> state. Those whose last\n"+
		"packet was no knock are in the state "+idText(nobody)+".", MaxProgress, &nft.TypeClassID, address)
	if admits(policy.AdmitAny) {
		c.live.many = perFamily("many", "Grants for any number of connections: source, grant. An element holds a limit that\nonly a flood reaches.", maxGrants, nil, grant)
	}
	if admits(policy.AdmitOne) {
		c.live.once = perFamily("once", "Grants for one connection: source, grant. An element holds a limit of two packets:\n"+
			"one is used when it is made, the other by the connection, so that two connections at\n"+
			"the same moment cannot both use it.", maxGrants, nil, grant)
	}
	c.live.granted = perFamily("granted", "Sources with a grant. Only these are asked for many grants, where many doors open a\nservice.", maxGrants, nil, address)
	if slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return s.Forfeit }) {
		c.live.held = perFamily("held", "Sources with a grant that a stray packet forfeits.", maxGrants, nil, address)
	}
	if c.p.HasKeys() {
		c.live.opened = perFamily("opened", "Which keys have opened a door for which source: source, code. It outlives the grant, so\nthat its connections can be found.", maxGrants, nil, grant)
	}
	if c.has(policy.TCP) {
		c.live.syns = perFamily("syns", "Connections that were admitted: addresses, ports and the sequence number that\n"+
			"only the SYN's own retransmissions have.", maxAdmitted, nil, func(f family) []datatype {
			return append(flow(f), nft.TypeClassID)
		})
	}
	if c.has(policy.UDP) {
		c.live.packets = perFamily("packets", "UDP flows that were admitted.", maxAdmitted, nil, flow)
	}
	c.live.sessions = map[family]*set{}
	doc := "TCP connections that were there before the rules, until conntrack knows them."
	for _, f := range families {
		c.live.sessions[f] = c.newSet(&set{
			name: "sessions" + f.suffix(), doc: doc, key: flow(f), timeout: true, size: 1 << 20,
		})
		doc = ""
	}
	c.live.cut = perFamily("cut", "Connections and UDP flows that were cut.", maxAdmitted, nil, flow)
	if slices.ContainsFunc(c.m.Services, ends) {
		c.live.closed = c.newSet(&set{
			name: "closed", doc: "Who has closed a door in a way that ends connections: source and service, hashed -> a\n" +
				"number that is another each time.",
			key: []datatype{nft.TypeClassID}, data: &nft.TypeClassID, dynamic: true, timeout: true, size: maxGrants,
		})
		c.live.salt = c.newSet(&set{
			name: "salt", doc: "What goes into these hashes: service -> a number that nobody knows. It stays as long as\n" +
				"anything is closed.",
			key: []datatype{nft.TypeClassID}, data: &nft.TypeClassID, dynamic: true, timeout: true, size: 1 << 16,
		})
		c.live.since = perFamily("since", "What has been admitted after that, with the number.", maxAdmitted, nil, func(f family) []datatype {
			return append(flow(f), nft.TypeClassID)
		})
	}
	c.live.budget = c.newSet(&set{
		name: "budget", doc: "How many packets each source has left that count as knocks. Sources share\n" +
			"buckets by a hash with a secret seed: a set of addresses could be filled with forged ones.",
		key: []datatype{nft.TypeClassID}, dynamic: true, timeout: true, size: uint32(automaton.Attempts.Buckets),
	})
}

// services makes the tables of what is hidden. A service goes by its first grant,
// which is the only one unless several doors open it.
func (c *compiler) services() {
	c.hidden = c.newPorts("hidden", "The ports of what is hidden.", func(yield func(policy.Port) bool) {
		for i := range c.m.Services {
			if !yield(c.m.Services[i].Port) {
				return
			}
		}
	})
	c.service = c.newServices("service", "What is hidden: protocol and port -> grant.", "What is hidden on one address only.")
	for i := range c.m.Services {
		s := &c.m.Services[i]
		c.service.put(s, uint32(c.m.Grants[s.Grants[0]].ID))
	}
}

// services is a map from services to numbers, in tables by what is asked for.
type services struct {
	*compiler
	name, docAt string
	any         *set            // by protocol and port
	at          map[family]*set // the same, for services of one address
}

func (c *compiler) newServices(name, doc, docAt string) *services {
	any := c.newSet(&set{name: name, doc: doc, key: serviceKey, data: &nft.TypeClassID})
	return &services{c, name, docAt, any, map[family]*set{}}
}

var serviceKey = []datatype{nft.TypeInetProto, nft.TypeInetService}

func (all *services) put(s *automaton.Service, id uint32) {
	parts := portParts(s.Port)
	if !s.Address.IsValid() {
		all.any.elements = append(all.any.elements, elementOf(parts...).to(id))
		return
	}
	f := of(s.Address)
	at := all.at[f]
	if at == nil {
		at = all.newSet(&set{
			name: all.name + "_at" + f.suffix(), doc: all.docAt,
			key: append([]datatype{f.datatype()}, serviceKey...), data: &nft.TypeClassID,
		})
		all.at[f] = at
	}
	at.elements = append(at.elements, elementOf(append([]part{addrPart(s.Address)}, parts...)...).to(id))
}

// on adds rules for packets to a service of the map, which then carry its number.
func (all *services) on(ch *chain, then ...statement) {
	ch.add(append([]statement{carryFrom(all.any, protocol, port)}, then...)...)
	for _, f := range families {
		if at := all.at[f]; at != nil {
			ch.add(append([]statement{carryFrom(at, daddr(f), protocol, port)}, then...)...)
		}
	}
}

// ports are sets of ports, one for each protocol that has any.
type ports map[policy.Protocol]*set

// withPorts are the protocols whose packets have ports, in the order of rules.
var withPorts = []policy.Protocol{policy.TCP, policy.UDP}

// newPorts makes sets of ports. A port alone fits the kernel's bitmaps, which
// cost next to nothing to ask.
func (c *compiler) newPorts(name, doc string, all iter.Seq[policy.Port]) ports {
	sets := ports{}
	seen := map[policy.Port]bool{}
	for p := range all {
		if seen[p] {
			continue
		}
		seen[p] = true
		s := sets[p.Protocol]
		if s == nil {
			s = c.newSet(&set{name: name + "_" + p.Protocol.String(), doc: doc, key: []datatype{nft.TypeInetService}})
			sets[p.Protocol] = s
		}
		s.elements = append(s.elements, elementOf(portPart(p.Number)))
	}
	return sets
}
