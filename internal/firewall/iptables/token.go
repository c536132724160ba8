package iptables

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"postern/internal/automaton"
	"postern/internal/policy"
)

// keysChain is the chain that leads from codes to the chains of tokens.
const keysChain = "KEYS"

// closing is the bit of a code whose token closes its door (bpf.Closing).
const closing = 1 << 31

var (
	hasMark     = matching("-m mark ! --mark 0x0")
	hasNoMark   = matching("-m mark --mark 0x0")
	isClosing   = matching("-m mark --mark 0x%[1]x/0x%[1]x", uint32(closing))
	isHere      = matching("-m addrtype --src-type UNICAST --dst-type LOCAL")
	isUntracked = matching("-m conntrack --ctstate UNTRACKED")

	removeMark = target{verdict: "-j MARK --set-xmark 0x0/0xffffffff"}
	untrack    = target{verdict: "-j CT --notrack"}
	comeBack   = target{verdict: "-j RETURN"}
)

// tokens makes the raw table, which sees packets before connection tracking and before
// they are routed. The program of package bpf has verified the token and has put the code
// of its device and door into the packet's mark, which was 0. Here the mark leads to the
// pair's chain, and is 0 again at the end of it. On the way, where the packet is not to be
// granted anything, it is 0 already, and before a line of the log: who may mark packets must
// not find codes there. Packets that others have marked match no code.
//
// The chain of codes is filled as the rules are loaded: codes are random.
func (c *compiler) tokens() {
	if !c.p.HasKeys() {
		return
	}
	pre := &chain{name: "PREROUTING", policy: "ACCEPT"}
	c.raw = append(c.raw, pre, &chain{name: "OUTPUT", policy: "ACCEPT"})
	c.keys = c.chain(&c.raw, keysChain, "Whose token it was, by a code that is random. \"postern up\" fills this list, and loads\n"+
		"what gives packets their codes.")
	pre.add("A packet with a right token has a mark. All others are let in here, to be judged in INPUT.", to(c.keys), hasMark)

	here := c.subChain("HERE", "A token counts for this host, and from a sender that can be one.")
	for _, name := range c.p.Interfaces {
		here.add("", comeBack, by(name), isHere)
	}
	if len(c.p.Interfaces) == 0 {
		here.add("", comeBack, isHere)
	}
	here.add("", removeMark)

	done := c.chain(&c.raw, "DONE", "The packet goes on without a mark. A ping that is not tracked was no knock.")
	done.add("", untrack, c.f.on(policy.Port{Protocol: policy.ICMP})...)
	done.add("", removeMark)
	done.add("", pass)

	forget := c.forgetProgress()
	users := map[*policy.User]*chain{}
	type ofDoor struct{ asked, given, shut *chain }
	doors := make([]ofDoor, len(c.m.Doors))
	for i := range c.m.Tokens {
		t := &c.m.Tokens[i]
		d, at := &c.m.Doors[t.Door], &doors[t.Door]
		if at.asked == nil {
			at.asked, at.given, at.shut = c.askDoor(t.Door), c.giveByKey(t.Door, done), c.shutByKey(t.Door, done)
		}
		if _, made := users[t.User]; !made {
			users[t.User] = c.askUser(t.User)
		}
		ch := c.chain(&c.raw, fmt.Sprintf("KEY-%s.%s.%s", t.User.Name, t.Device, d.Name),
			fmt.Sprintf("A right token of %s, for the door %s.", t.Name(), d.Name))
		c.tokenChains[t] = ch
		ch.add("", to(here))
		if forget != nil {
			ch.add("", to(forget))
		}
		if users[t.User] != nil {
			ch.add("", to(users[t.User]))
		}
		shut := at.shut
		if c.p.Log.Target != policy.LogNone {
			shut = c.chain(&c.raw, fmt.Sprintf("SHUT-%s.%s.%s", t.User.Name, t.Device, d.Name), "")
			shut.add("A line of the log would have the mark.", removeMark)
			c.log(shut, c.keyPrefix(t, d, "closed"))
			shut.add("", to(at.shut))
		}
		ch.add("It closes the door.", to(shut), isClosing)
		ch.add("", to(at.asked))
		ch.add("It was not for here, or not from there.", to(done), hasNoMark)
		if c.p.Log.Target != policy.LogNone {
			ch.add("A line of the log would have the mark.", removeMark)
			c.log(ch, c.keyPrefix(t, d, "accepted"))
		}
		ch.add("", nothing, c.set(c.openedList(t, d)))
		ch.add("", to(at.given))
	}
}

// subChain makes a chain of the raw table that comes back, with no mark if a token is not to
// count.
func (c *compiler) subChain(name, doc string) *chain {
	ch := c.chain(&c.raw, name, doc)
	ch.sub = true
	return ch
}

// askUser makes the chain that asks for a user's networks; nil if that is any.
func (c *compiler) askUser(u *policy.User) *chain {
	from, anyone := c.senders(u.Networks)
	if anyone {
		return nil
	}
	return c.only(c.subChain("USER-"+u.Name, "The networks that "+u.Name+" may send tokens from."), from)
}

// askDoor makes the chain that asks for the networks of a door.
func (c *compiler) askDoor(door int) *chain {
	d := &c.m.Doors[door]
	ch := c.subChain("ASK-"+d.Name, "Who may have what the door "+d.Name+" hides.")
	ch.add("", comeBack, hasNoMark)
	switch from, anyone := c.senders(d.From); {
	case !c.serves(d):
		ch.add("", removeMark)
	case !anyone:
		c.only(ch, from)
	}
	return ch
}

// forgetProgress makes the chain that takes the sender of a token off all lists of knocks; nil
// where there are none.
func (c *compiler) forgetProgress() *chain {
	if len(c.m.States) == 0 {
		return nil
	}
	ch := c.subChain("FORGET", "The sender is off all lists of knocks.")
	ch.add("", comeBack, hasNoMark)
	for i := range c.m.States {
		ch.add("", nothing, c.remove(c.stateList(&c.m.States[i])))
	}
	ch.add("", nothing, c.remove(c.progressList()))
	return ch
}

// only fills a chain that takes the mark from packets which are not from some networks.
func (c *compiler) only(ch *chain, from []netip.Prefix) *chain {
	for _, p := range from {
		ch.add("", comeBack, address("-s", p))
	}
	ch.add("", removeMark)
	return ch
}

// giveByKey makes the chain that gives a door's grants.
func (c *compiler) giveByKey(door int, done *chain) *chain {
	d := &c.m.Doors[door]
	ch := c.chain(&c.raw, "GIVE-"+d.Name, "What a key opens.")
	c.give(ch, door, opensByKey)
	ch.add("", to(done))
	return ch
}

// shutByKey makes the chain that takes a door's grants from the sender.
func (c *compiler) shutByKey(door int, done *chain) *chain {
	d := &c.m.Doors[door]
	ch := c.chain(&c.raw, "SHUT-"+d.Name, "A key closes the door.")
	if c.serves(d) {
		c.take(ch, d)
	}
	ch.add("", to(done))
	return ch
}

// keyPrefix is the log line of a token. The kernel's own log takes so few letters that it
// has a shorter word there.
func (c *compiler) keyPrefix(t *automaton.Token, d *automaton.Door, what string) string {
	words := "Key " + what + "!: "
	if c.p.Log.Target == policy.LogKernel {
		words = map[string]string{"accepted": "Key: ", "closed": "Shut: "}[what]
	}
	return words + t.Name() + " " + d.Name + " "
}

// openedList is the list of the sources that a key has opened a door for.
func (c *compiler) openedList(t *automaton.Token, d *automaton.Door) *recentList {
	name := t.User.Name + "." + t.Device + "." + d.Name
	id := fnv.New64a()
	id.Write([]byte(name))
	return &recentList{alone: c.listName("KEY-" + name), shared: c.sharedName("KEY"), kind: ofKey, id: id.Sum64()}
}

// keyPort adds what comes to the port of tokens, and pings that had one: they are no knocks.
func (c *compiler) keyPort(ch *chain) {
	if !c.p.HasKeys() {
		return
	}
	doc := "Whatever comes to the port of tokens is no knock."
	for _, p := range []policy.Protocol{policy.TCP, policy.UDP} {
		ch.add(doc, c.cover, c.f.on(policy.Port{Protocol: p, Number: c.p.Keys.Port.Number})...)
		doc = ""
	}
	ch.add("A ping that had a right token is not tracked, and is no knock, either.", c.cover,
		append(c.f.on(policy.Port{Protocol: policy.ICMP}), isUntracked)...)
}
