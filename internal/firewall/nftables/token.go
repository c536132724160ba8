//go:build linux

package nftables

import (
	"fmt"
	"strings"

	nft "github.com/google/nftables"
	"github.com/google/nftables/expr"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
	"postern/internal/policy"
)

// tokened is what a ping carries that had a right token. It is no state's id and no
// grant's, as refused is none.
const tokened uint32 = 0xfffe << 16

// openedFor is how long it is known that a key has opened a door for a source, after it did
// last: as long as connection tracking remembers a connection that is silent.
const openedFor = sessionsFor

var (
	isTokened = is(carried, idText(tokened), idBytes(tokened))
	isCoded   = compare(carried, "!= ", expr.CmpOpNeq, idText(0), idBytes(0))
	isClosing = compare(carriedBits(bpf.Closing), "!= ", expr.CmpOpNeq, idText(0), idBytes(0))
	code      = carriedBits(bpf.Closing - 1) // of a device and door, whatever its token does
)

// tokens makes the chains of tokens: one for each device and door. The program of package
// bpf has verified the token and has given the packet the pair's code; here it is asked
// from where it comes, and the source gets the door's grants. The map of codes is filled
// as the rules are loaded: the codes are random.
//
// A packet with a token, and all that comes to the port of tokens, is no input. It is
// answered like any other packet of its kind that is not admitted.
func (c *compiler) tokens() {
	if !c.p.HasKeys() {
		return
	}
	c.keys = c.newSet(&set{
		name: "keys", doc: "Whose token the packet has, by a code that is random. \"postern up\" fills it, and loads\n" +
			"what gives packets their codes.",
		key: []datatype{nft.TypeClassID}, verdict: true,
	})
	c.token = c.newChain("token", "What has a token, or comes to the port of tokens, is no knock. It is answered like any\n"+
		"other packet.")
	c.token.add(carryID(0))
	if c.allow != nil {
		c.token.add(jump(c.allow))
	}
	c.token.add(goTo(c.cover))
	c.synToken = c.newChain("token_syn", "A SYN to the port of tokens.")
	c.synToken.add(verdict(c.keys, code))
	c.synToken.add(goTo(c.token))
	c.answered = c.newChain("answered", "A SYN is answered now, like any other. All else is, after connection tracking; of a ping\n"+
		"nothing else tells that it had a token.")
	c.answered.add(isProto(policy.TCP), goTo(c.token)) // not to judge: the kernel counts how deep chains are
	c.answered.add(isProto(policy.UDP), goTo(c.pass))
	c.answered.add(carryID(tokened), accept)

	networks := map[*policy.User]map[family]*set{}
	doors := make([]struct{ asked, given, shut *chain }, len(c.m.Doors))
	longestForfeit := c.longestGrant(func(d *automaton.Door) bool { return d.Forfeit })
	for i := range c.m.Tokens {
		t := &c.m.Tokens[i]
		d := &c.m.Doors[t.Door]
		at := &doors[t.Door]
		if at.given == nil {
			at.asked = c.newChain("keyed_"+d.Name, "A right token for the door "+d.Name+", from where its user may be.")
			c.restrict(at.asked, d, c.answered)
			at.given = c.newChain("given_"+d.Name, "")
			at.given.add(count(c.newCounter("key_" + d.Name)))
			c.open(at.given, t.Door)
			c.grant(at.given, d, longestForfeit, c.answered)
			at.shut = c.newChain("shut_"+d.Name, "A right token that closes the door "+d.Name+".")
			at.shut.add(count(c.closed(d)))
			c.shut(at.shut, d, c.answered)
		}
		ch := c.newChain(tokenChain(t, d.Name), "")
		ch.add(jump(c.forget))
		if _, made := networks[t.User]; !made {
			networks[t.User] = c.networks("networks_"+t.User.Name, "The networks that "+t.User.Name+" may send tokens from.", t.User.Networks)
		}
		if len(t.User.Networks) > 0 {
			for _, f := range families {
				c.within(ch, f, networks[t.User][f], c.answered)
			}
		}
		if c.p.Log.Target != policy.LogNone {
			ch.add(isClosing, logRate, logLine(c.p.Log, "Key closed!: "+t.Name()+" "+d.Name+" "))
		}
		ch.say("The highest bit says that the token closes the door.", isClosing, goTo(at.shut))
		ch.add(jump(at.asked))
		if c.p.Log.Target != policy.LogNone {
			ch.add(logRate, logLine(c.p.Log, "Key accepted!: "+t.Name()+" "+d.Name+" "))
		}
		for _, f := range families {
			ch.add(refresh(c.live.opened[f], max(openedFor, d.OpenFor), c.source(f), carried))
		}
		ch.add(goTo(at.given))
	}
	c.syn.add(isCoded, c.governed(), toThisHost, verdict(c.keys, code))
}

// tokenChain is the name of the chain of a device and door. No name of a user, a device
// or a door has a dot.
func tokenChain(t *automaton.Token, door string) string {
	return fmt.Sprintf("key_%s.%s.%s", t.User.Name, t.Device, door)
}

// tokenOwner returns the user and the device whose chain an element leads to, as in
// "alice/laptop", or "".
func tokenOwner(e element) string {
	if e.verdict == nil {
		return ""
	}
	user, rest, _ := strings.Cut(strings.TrimPrefix(e.verdict.Chain, "key_"), ".")
	device, _, found := strings.Cut(rest, ".")
	if !found {
		return ""
	}
	return user + "/" + device
}
