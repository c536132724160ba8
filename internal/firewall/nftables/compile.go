//go:build linux

package nftables

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/policy"
)

// A compiler builds a rule set from a machine. The methods that build parts are
// in the files named after them: knock.go, door.go, host.go.
type compiler struct {
	*Ruleset
	m *automaton.Machine
	p *policy.Policy

	hidden     ports     // of all services
	service    *services // what is asked for -> its first grant
	closable   ports     // of the services whose connections end as their door is closed
	ended      *services // which these are
	interfaces *set      // nil for all but loopback
	gate       *set      // leads to the log lines; nil if there are none
	from       map[*automaton.Door]map[family]*set

	syn, packet, input, divert, reply *chain // what the kernel calls
	admitted                          *chain // the same; nil where nothing is marked
	idle                              *chain // the same; nil where idle ports answer for themselves
	output                            *chain // the same; nil where no closing ends connections
	allow, allowOriginal              *chain // nil where nothing is allowed
	allowMore                         *chain // what of it is no port alone; nil where all of it is
	judge, asked, spend, pass         *chain
	counted, overBudget               *chain // nil where nothing is counted early
	countedNoted                      *chain // nil where no first knock is noted
	noted                             *set   // the same: what they lead to
	cover                             *chain
	refuse                            *chain            // what cover is behind conntrack
	unjudged                          *chain            // what it is in the input hook
	late                              *chain            // nil where cover refuses TCP, too
	move                              *chain            // nil where all states have one timeout
	forfeit                           *chain            // nil where no door has it
	forget                            *chain            // deletes the source's state
	answered, token, synToken         *chain            // of packets with tokens; nil where no door has keys
	lastKnocks                        *set              // leads to the doors
	granting                          map[string]*chain // by name: see grantChain
}

// Compile returns the rule set that runs a machine. It is pure: the same machine
// has the same rule set everywhere.
func Compile(m *automaton.Machine) *Ruleset {
	c := &compiler{Ruleset: &Ruleset{}, m: m, p: m.Policy, from: map[*automaton.Door]map[family]*set{}}
	c.name = c.newSet(&set{name: "rule_set", doc: "Nothing; its comment names the rule set.", key: []datatype{nft.TypeClassID}})
	c.liveSets()
	c.services()
	c.closableServices()
	c.hooks()
	c.ending()
	c.allowed()
	c.knocks()
	c.host()
	c.marking()
	c.diverting()
	c.arrange()
	c.digest = c.sum(firewall.TokenTerms(c.p))
	c.name.comment = c.comment()
	return c.Ruleset
}

// reading is the order of the chains in a listing, which is that in which a
// packet meets them. A name stands for all that begin with it.
var reading = []string{
	"syn", "packet", "undivert", "admitted", "marked", "refused", "input", "idle", "output", "divert", "replies",
	"allow", "told", "counted", "judge", "asked", "holder", "shared", "admit", "pass",
	"spend", "spent", "walk", "move", "door_", "close_",
	"key_", "keyed_", "given_", "shut_", "answered", "token", "forget", "grant_", "log_", "gate", "forfeit",
	"cut", "closable", "ended", "spared", "guard", "stray", "late", "routed", "hidden", "unjudged", "refuse", "cover",
}

func (c *compiler) arrange() {
	rank := func(ch *chain) int {
		return slices.IndexFunc(reading, func(name string) bool { return strings.HasPrefix(ch.name, name) })
	}
	slices.SortStableFunc(c.chains, func(a, b *chain) int { return cmp.Compare(rank(a), rank(b)) })
}

func (c *compiler) newSet(s *set) *set {
	c.sets = append(c.sets, s)
	return s
}

// newChain makes a chain that rules lead to.
func (c *compiler) newChain(name, doc string) *chain {
	ch := &chain{name: name, doc: doc}
	c.chains = append(c.chains, ch)
	return ch
}

func (c *compiler) newCounter(name string) string {
	c.counters = append(c.counters, name)
	return name
}

// source is who a packet counts as: its sender, or the network that the policy
// takes for one source.
func (c *compiler) source(f family) field { return saddr(f, c.sourceBits(f)) }

func (c *compiler) sourceBits(f family) int { return c.p.Source.Prefix(sample[f]).Bits() }

// has reports whether any service is of the protocol.
func (c *compiler) has(p policy.Protocol) bool {
	return slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return s.Port.Protocol == p })
}

// onService adds rules for packets to a hidden service, which then carry its
// first grant.
func (c *compiler) onService(ch *chain, then ...statement) { c.service.on(ch, then...) }

// MarkPriority is where what was admitted is marked: behind connection tracking and
// the last chain that admits, and before others' DNAT. Chains that others hook in
// earlier see no mark.
const MarkPriority = -149

// DivertPriority is where connections to services on other hosts are sent on: just
// before others' DNAT. A chain that diverts them earlier wins.
const DivertPriority = -105

// hooks makes the chains that the kernel calls.
func (c *compiler) hooks() {
	if len(c.p.Interfaces) > 0 {
		c.interfaces = c.newSet(&set{name: "interfaces", doc: "The interfaces that the policy is about.", key: []datatype{nft.TypeIFName}})
		for _, name := range c.p.Interfaces {
			e := elementOf(part{fmt.Sprintf("%q", name), nameBytes(name)})
			c.interfaces.elements = append(c.interfaces.elements, e)
		}
	}
	hook := func(name, doc string, kind nft.ChainType, h *nft.ChainHook, hookName string, priority int, where string) *chain {
		ch := c.newChain(name, doc)
		ch.base = &base{kind, h, hookName, priority, where}
		return ch
	}
	c.syn = hook("syn", "New TCP connections to this host. They are judged before conntrack sees them, so that a\n"+
		"scan leaves nothing behind, and before any DNAT.",
		nft.ChainTypeFilter, nft.ChainHookPrerouting, "prerouting", -300, "raw")
	c.packet = hook("packet", "UDP packets and echo requests of no known flow.",
		nft.ChainTypeFilter, nft.ChainHookPrerouting, "prerouting", -150, "mangle")
	if c.p.Admitted.Mark != 0 {
		c.admitted = hook("admitted", "What was admitted is marked, for the rules of others.",
			nft.ChainTypeFilter, nft.ChainHookPrerouting, "prerouting", MarkPriority, "mangle + 1")
	}
	c.input = hook("input", "What reaches this host. It does not rely on earlier chains: only known connections and\n"+
		"admitted packets are let in.",
		nft.ChainTypeFilter, nft.ChainHookInput, "input", 0, "filter")
	if c.p.Posture == policy.Guard && c.p.Cover.LooksIdle() {
		c.idle = hook("idle", "Ports with nothing behind them, after all other rules. The kernel would answer too, but\n"+
			"its answers differ in details from those of the hidden services.",
			nft.ChainTypeFilter, nft.ChainHookInput, "input", 200, "200")
	}
	if c.live.closed != nil {
		c.output = hook("output", "What was cut by closing a door is sent nothing any more.",
			nft.ChainTypeFilter, nft.ChainHookOutput, "output", 0, "filter")
	}
	if slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return s.Forward.IsValid() }) {
		c.divert = hook("divert", "Services on other hosts: only what was admitted is sent on to them.",
			nft.ChainTypeNAT, nft.ChainHookPrerouting, "prerouting", DivertPriority, "dstnat - 5")
	}
	if slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool { return s.Masquerade }) {
		c.reply = hook("replies", "Services whose host can answer only through this one.",
			nft.ChainTypeNAT, nft.ChainHookPostrouting, "postrouting", 100, "srcnat")
	}
}

// governed begins a rule that is about the policy's interfaces only.
func (c *compiler) governed() statement {
	if c.interfaces == nil {
		return notLoopback
	}
	return in(c.interfaces, interfaceName)
}

// blocked is the counter of what is not admitted.
const blocked = "blocked"

// ending makes the chains that packets end in.
func (c *compiler) ending() {
	c.pass = c.newChain("pass", "Accepted, as it came.")
	c.pass.add(carryID(0))
	c.pass.add(accept)

	ch := c.newChain("cover", "What is not admitted. The answer is the same whatever the sender's progress.")
	c.cover, c.refuse, c.unjudged = ch, ch, ch
	ch.add(count(c.newCounter(blocked)))
	if c.p.Cover.Answers() {
		c.refuse = c.refusing(ch)
		c.cover, c.unjudged = c.refuse, c.elsewhere(ch)
		ch.add(toEveryone, isProto(policy.TCP), drop)
		c.unrouted(ch)
		// conntrack calls invalid what belongs to a connection and does not
		// fit its window. A bare ACK of no connection is new to it
		// (nf_conntrack_tcp_loose), so that a scan does not come this way;
		// where that is turned off, no such port answers a bare ACK.
		ch.say("It may be a late segment of a connection, which a RST would end.", isACK, isInvalid, drop)
	}
	ch.answer(c.p.Cover)
	ch.add(drop)
	if c.p.Posture == policy.Guard {
		c.guard()
	}
}

// answer adds the rules that answer as a cover does.
func (ch *chain) answer(c policy.Cover) {
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP} {
		switch a := c.Answer(p); a {
		case policy.NoAnswer:
		case policy.AnswerReset:
			ch.add(isProto(p), reset)
		case policy.AnswerUnreachable:
			ch.add(isProto(p), unreachable)
		default:
			panic("nftables: no statement answers with " + a.String())
		}
	}
}

// guard refuses packets to the hidden services only.
func (c *compiler) guard() {
	hidden := func(name, doc string, refuse *chain, more ...statement) *chain {
		ch := c.newChain(name, doc)
		c.onService(ch, goTo(refuse))
		if len(more) > 0 {
			ch.say("Nor is what is hidden on one address reached by broadcast, multicast or anycast.", append(more, goTo(refuse))...)
		}
		ch.add(goTo(c.pass))
		return ch
	}
	const doc = "What is not admitted. Only the hidden services refuse it; the rest of the host is left\nalone."
	refuse, unjudged := c.refuse, c.unjudged
	c.refuse = hidden("hidden", doc, refuse)
	c.cover, c.unjudged = c.refuse, c.refuse
	var toAll []statement
	if slices.ContainsFunc(c.m.Services, func(s automaton.Service) bool {
		return s.Address.IsValid() && s.Port.Protocol == policy.UDP
	}) {
		toAll = []statement{in(c.hidden[policy.UDP], dport(policy.UDP)), toOthers}
	}
	if unjudged != refuse || len(toAll) > 0 {
		c.unjudged = hidden("hidden_unjudged", "", unjudged, toAll...)
	}
	if !c.p.Cover.LooksIdle() {
		return
	}
	// An answer must look like that of a port with nothing behind it, also to
	// the rules of others: the SYN is refused where conntrack knows it, as it
	// knows those to idle ports, but before any DNAT.
	c.cover = c.newChain("guard", "What is not admitted, before conntrack. TCP is refused after it, in the chain late.")
	c.cover.add(isProto(policy.TCP), goTo(c.pass))
	c.cover.add(goTo(c.refuse))
	c.late = c.newChain("late", "A new connection to a hidden service: only what was admitted goes on.")
}

// allowed makes the chains of what needs no knock, if the policy has any.
func (c *compiler) allowed() {
	if len(c.p.Allow) == 0 {
		return
	}
	c.allow = c.newChain("allow", "What needs no knock.")
	c.allowOriginal = c.newChain("allow_original", "The same, by the port that was asked for before any DNAT.")
	for i := range c.p.Allow {
		a := &c.p.Allow[i]
		ch := c.allow
		if _, alone := portAlone(a); !alone {
			if c.allowMore == nil {
				c.allowMore = c.newChain("allow_more", "What more than its port decides about.")
			}
			ch = c.allowMore
		}
		for _, condition := range conditions(a, port) {
			ch.add(append(condition, accept)...)
		}
		for _, condition := range conditions(a, originalPort) {
			c.allowOriginal.add(append(condition, accept)...)
		}
	}
	if c.allowMore != nil {
		c.allow.add(jump(c.allowMore))
	}
}

// portAlone returns the port of an entry that allows it to everyone.
func portAlone(a *policy.Allow) (p policy.Port, ok bool) {
	p = policy.Port{Protocol: a.Service.Protocol, Number: a.Service.First}
	return p, slices.Contains(withPorts, p.Protocol) && a.Service.First == a.Service.Last && a.Interface == "" && !a.From.IsValid()
}

// conditions returns what an allow entry asks for, as the beginnings of one rule
// or two (ICMP differs between the families).
func conditions(a *policy.Allow, to field) [][]statement {
	var common []statement
	if a.Interface != "" {
		common = append(common, isInterface(a.Interface))
	}
	if a.From.IsValid() {
		common = append(common, isFrom(a.From))
	}
	switch s := a.Service; s.Protocol {
	case 0:
		return [][]statement{common}
	case policy.ICMP:
		var both [][]statement
		for _, f := range families {
			if !a.From.IsValid() || of(a.From.Addr()) == f {
				both = append(both, append(slices.Clone(common), isEcho(f)))
			}
		}
		return both
	case policy.TCP, policy.UDP:
		return [][]statement{append(common, isProto(s.Protocol), isBetween(to, s.First, s.Last))}
	default:
		return [][]statement{append(common, isProto(s.Protocol))}
	}
}

// isEcho matches an echo request (RFC 792, RFC 4443).
func isEcho(f family) statement {
	if f == ipv4 {
		return is(icmpType(f), "echo-request", []byte{8})
	}
	return is(icmpType(f), "echo-request", []byte{128})
}

// logRate bounds the lines that each rule may write to the log.
var logRate = rate{n: 10, unit: expr.LimitTimeSecond, burst: 20}

// oneUse is the limit that makes a grant good for one connection: making the
// element takes the first of two packets, the connection takes the second. The
// kernel counts it down under a lock.
var oneUse = rate{n: 1, unit: expr.LimitTimeWeek, burst: 2}

// longestGrant returns the longest time that a grant of these doors may live.
func (c *compiler) longestGrant(of func(*automaton.Door) bool) time.Duration {
	var longest time.Duration
	for i := range c.m.Doors {
		if d := &c.m.Doors[i]; of(d) {
			longest = max(longest, d.OpenFor)
		}
	}
	return longest
}

// manyUses is the same for any number of connections but a flood. Making the
// element takes the first of these, too.
var manyUses = rate{
	n: uint64(automaton.Connections.Rate), unit: expr.LimitTimeSecond, burst: uint32(automaton.Connections.Burst),
}

// timeouts returns the different step timeouts, shortest first.
func (c *compiler) timeouts() []time.Duration {
	var all []time.Duration
	for i := range c.m.States {
		all = append(all, c.m.States[i].Timeout)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// prefixes splits prefixes into the families', sorted and without overlaps, as
// interval sets want them.
func prefixes(all []netip.Prefix) map[family][]netip.Prefix {
	sorted := slices.Clone(all)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	split := map[family][]netip.Prefix{}
	for _, p := range sorted {
		f := of(p.Addr())
		if kept := split[f]; len(kept) > 0 && kept[len(kept)-1].Overlaps(p) {
			continue // inside the one before it
		}
		split[f] = append(split[f], p)
	}
	return split
}
