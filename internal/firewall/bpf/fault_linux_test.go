package bpf

import (
	"flag"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/key"
)

// A fault is a mistake in the program, and the test that must find it.
type fault struct {
	name     string
	old, new string
	find     func(s *scene)
}

// verified runs TestVerify's tokens in datagrams, which are as good as any.
func verified(s *scene) { verify(s, datagram, sender4) }

func shaped(e envelope, from netip.Addr) func(*scene) {
	return func(s *scene) { shapes(s, e, from); headerBits(s, e, from) }
}

var faults = []fault{
	{"no tag", `if (!tag_is_right(d, t, source))`, `if (0)`, verified},
	{"part of the tag", `for (int i = 0; i < 4; i++)
		different |=`, `for (int i = 0; i < 3; i++)
		different |=`, func(s *scene) { everyBit(s, datagram, sender4) }},
	{"the address is not in the tag", `bound ? be32(source[i]) : 0`, `0`, verified},
	{"the address is always in the tag", `bound ? be32(source[i]) : 0`, `be32(source[i])`, verified},
	{"time moves before the tag is verified", `	if (!tag_is_right(`, `	*last = t->head.time;
	if (!tag_is_right(`, verified},
	{"replays", `	if (t->head.time <= old)
		return (carried`, `	if (0)
		return (carried`, verified},
	{"older tokens", `	if (t->head.time <= old)
		return (carried`, `	if (t->head.time == old)
		return (carried`, verified},
	{"no compare-and-swap", `__sync_val_compare_and_swap(last, old, t->head.time)`, `old; *last = t->head.time`, func(s *scene) {
		won := race(s, 20_000)
		s.t.Logf("none, one or both won: %v", won)
		if won[2] > 0 {
			s.t.Errorf("both won in %d rounds", won[2])
		}
	}},
	{"tokens from before a boot", `t->head.time <= now - (clock_boot() - use->since) + c->ahead`, `0`, tooEarly},
	{"one lane", `t->head.flags & LANE ? &use->last[1] : &use->last[0]`, `&use->last[0]`, verified},
	{"old tokens", `now - time > c->behind ? STALE : ACCEPTED`, `ACCEPTED`, verified},
	{"tokens of the future", `time - now > c->ahead ? EARLY : ACCEPTED`, `ACCEPTED`, verified},
	{"no end", `if (d->until && now >= d->until)`, `if (0)`, verified},
	{"any version", `t->head.version != VERSION || `, ``, func(s *scene) { everyBit(s, datagram, sender4) }},
	{"any flags", `t->head.flags & ~(BOUND | LANE | CLOSE) || `, ``, func(s *scene) { everyBit(s, datagram, sender4) }},
	{"closing opens", `t->head.flags & CLOSE ? *code | CLOSING : *code`, `*code`, verified},
	{"replays on any interface", `(carried(p, c) & ~CLOSING) == *code ? AGAIN : REPLAYED`, `AGAIN`, verified},
	{"no second pass", `(carried(p, c) & ~CLOSING) == *code ? AGAIN : REPLAYED`, `REPLAYED`, secondPass},
	{"marks of others are replaced", `if (c->flags & IN_MARK && p->mark && (p->mark & ~CLOSING) != *code)`, `if (0)`, inMark},
	{"marked, and of another priority, too", `	if (c->flags & IN_MARK) {
		p`, `	p->priority = code;
	if (c->flags & IN_MARK) {
		p`, inMark},
	{"a second pass by the priority", `return c->flags & IN_MARK ? mark : priority`, `return priority`, inMark},
	{"fragments", ` && !(be16_at(ip + 6) & 0x3fff);`, `;`, shaped(datagram, sender4)},
	{"IP options", `ip[0] == 0x45`, `ip[0] >> 4 == 4`, shaped(datagram, sender4)},
	{"any IPv6", `ip[0] >> 4 == 6`, `1`, shaped(ping, sender6)},
	{"any length of UDP", ` || be16_at(next + 4) != 8 + TOKEN`, ``, shaped(datagram, sender6)},
	{"any length", `return h->len == h->start + size + TOKEN ? h->start + size : 0;`, `return h->start + size;`, shaped(ping, sender4)},
	{"any flags of TCP", `(tcp[13] & 0x17) == 0x02`, `!!(tcp[13] & 0x02)`, shaped(synData, sender4)},
	{"any port", `be16_at(next + 2) != c->port || !is`, `!is`, shaped(synData, sender6)},
	{"any code of ICMP", ` || next[1] != 0`, ``, shaped(ping, sender6)},
	{"junk is dropped", `			count(outcome, 1);`, `			count(outcome, 1);
		if (outcome != ACCEPTED)
			return DROP;`, verified},
	{"no tagged frames", ` || (p->vlan_present && p->vlan_tci & VLAN_ID)`, ` || p->vlan_present`, tagged},
	{"frames of all VLANs", ` || (p->vlan_present && p->vlan_tci & VLAN_ID)`, ``, tagged},
}

// finds returns what runs a case of TestEarly.
func finds(name string) func(*scene) {
	return func(s *scene) {
		e := newEarlyScene(s.t, s.spec, earlyCases[name].change)
		e.t = &recorder{TB: s.t}
		earlyCases[name].run(e)
		if e.t.(*recorder).failed {
			s.t.Errorf("found by %s", name)
		}
	}
}

const (
	lateWrite = `	if (__sync_val_compare_and_swap(place, old, name << TIME_BITS | until) != old)
		*(volatile u64 *)place = (u64)NOBODY << TIME_BITS | until;`
	// wait is for the other CPU to write there.
	wait = `	for (int i = 0; i < 20; i++)
		clock();
`
)

// earlyFaults are mistakes in early.h.
var earlyFaults = []fault{
	{"nothing is counted", `within = take(e, budget >> 20 & (ATTEMPTS - 1), now);`, `within = 1;`, finds("budget")},
	{"budgets do not grow again", `from = old > now ? old : now;`, `from = old;`, finds("budget")},
	{"no limit at once", `if (from + e->cost - now > e->most)`, `if (from > now)`, finds("budget")},
	{"a budget for each address", `budget = hash(e, h->from.pair, e->budget6);`, `budget = source;`, finds("sources")},
	{"every address for itself", `u64 masked[2] = {address[0] & mask[0], address[1] & mask[1]};`, `u64 masked[2] = {address[0], address[1]};`, finds("sources")},
	{"one source for a site", `h->six ? e->source6 : e->source4`, `h->six ? e->budget6 : e->source4`, finds("sources")},
	{"nothing is known at first", `now < full)`, `now < (full & 1))`, finds("full at first")},
	{"too short a memory", `((now + patience) >> UNIT) + 1`, `((now + patience / 2) >> UNIT) + 1`, finds("patience")},
	{"too long a memory", `((now + patience) >> UNIT) + 1`, `((now + 2 * patience) >> UNIT) + 1`, finds("patience")},
	{"dropped whatever it has done", `: !progress && !(h->p`, `: !(h->p`, finds("full at first")},
	{"never dropped", `: !progress && !(h->p`, `: 0 && !(h->p`, finds("budget")},
	{"who is over the budget is not forgotten", `e->full, !within)`, `e->full, 0)`, finds("budget")},
	{"knocks are dropped where nothing answers", `(h->protocol == UDP || first)`, `(h->protocol == UDP)`, finds("where nothing answers")},
	{"datagrams go on over the budget", `goes_on = within && `, `goes_on = `, finds("datagrams")},
	{"no port but knocks is dropped within the budget", `goes_on = within && `, `goes_on = within || `, finds("where nothing answers")},
	{"datagrams are dropped where nothing answers", `(h->protocol == UDP || first)`, `first`, finds("datagrams where nothing answers")},
	{"others are forgotten", `		if (old >> TIME_BITS != name)
			continue;`, ``, finds("a free place")},
	{"what is nobody's is no one's", `		if (old >> TIME_BITS == NOBODY)
			return 1;`, ``, finds("shared places")},
	{"what is over is remembered", `		if (until_of(old) <= now)
			continue;`, ``, finds("budget")},
	{"free places are not used", `		if (until_of(old) <= now) {`, `		if (0) {`, finds("a free place")},
	{"places of others are free", `		if (until_of(old) <= now) {`, `		if (old >> TIME_BITS != name) {`, finds("a free place")},
	{"a source takes several places", `old >> TIME_BITS == name) {`, `0) {`, finds("the same place")},
	{"one place for each source", `CHOICE = 4,`, `CHOICE = 1,`, crowded},
	{"one place is asked", `		u64 *place = &places->entry[i];`, `		u64 *place = &places->entry[0];`, finds("a free place")},
	{"who comes at the same moment is not remembered", lateWrite, wait + `	__sync_val_compare_and_swap(place, old, name << TIME_BITS | until);`, meets},
	{"who comes at the same moment is overwritten", lateWrite, wait + `	*(volatile u64 *)place = name << TIME_BITS | until;`, meets},
	{"a fast sender is never forgotten", `if (forget && until_of(old) > soon)`, `if (forget)`, finds("fast senders")},
	{"others are overwritten", `		name = NOBODY;`, `		;`, finds("shared places")},
	{"what is counted is not remembered", `	if (within)
		remember(source, now, e->patience);`, ``, finds("full at first")},
	{"what is over the budget is remembered", `	if (within)
		remember`, `	if (1)
		remember`, finds("budget")},
	{"what is not counted is not remembered", `		if (knocks)
			remember(source, now, e->patience);`, ``, finds("ports that are not counted")},
	{"every port is counted", `!has(named, be16_at(h->next + 2)) && `, ``, finds("ports that are not counted")},
	{"frames for others", `p->pkt_type == PACKET_HOST && `, ``, finds("what is not for this host")},
	{"IPv6 to what stands for IPv4", `h->six && !h->to.pair[0] &&`, `0 &&`, finds("what is not for this host")},
	{"any interface", `map_lookup(&interfaces, &interface) && `, ``, finds("what is not for this host")},
	{"any address", ` && map_lookup(&addresses, h->to.word)`, ``, finds("what is not for this host")},
	{"what is sent on", `return found == FIB_NOT_FORWARDED || found == FIB_FORWARDING_DISABLED;`, `return 1;`, finds("addresses that are gone")},
	{"any flags of early TCP", `if (!is_syn(h->next))`, `if (!(h->next[13] & 0x02))`, finds("what is not for this host")},
	{"trusted senders are counted", ` && !(e->kinds & TRUST && trusts(p, h))`, ``, finds("trusted")},
	{"trusted on any interface", `.interface = p->ifindex}`, `.interface = 0}`, finds("trusted")},
	{"counted twice", `	if (!e || p->priority - e->codes < BLOCK || p->priority - e->left < BLOCK)
		return 0;`, `	if (!e)
		return 0;`, finds("again")},
	{"options are counted", `ip[0] == 0x45 && !(be16_at(ip + 6) & 0x3fff);`, `1;`, finds("what may be a knock")},
	{"UDP is forgotten", `knocks = e->kinds & UDP_KNOCKS;`, `knocks = 0;`, finds("what may be a knock")},
	{"pings are forgotten", `knocks = e->kinds & ECHO_KNOCKS;`, `knocks = 0;`, finds("what may be a knock")},
	{"tokens are forgotten", `		if (outcome == ACCEPTED && early)
			uses_token(&h);`, ``, finds("tokens")},
	{"never off", `counts = c->flags & COUNTS_EARLY`, `counts = 1`, finds("first knocks before a pause")},
	{"no datagram is counted", `e->kinds & UDP_COUNTS && is_counted`, `0 && is_counted`, finds("datagrams")},
	{"ports of TCP and UDP are the same", `h->protocol == UDP ? e->named_udp : e->named_tcp`, `e->named_tcp`, finds("datagrams to ports that are not counted")},
	{"ports of UDP and TCP are the same", `h->protocol == UDP ? e->named_udp : e->named_tcp`, `e->named_udp`, finds("datagrams to ports that are not counted")},
	{"known flows are counted", `&& is_known(p, h))
			return 0;`, `&& is_known(p, h))
			;`, finds("datagrams of known flows")},
	{"known flows are remembered", `&& is_known(p, h))
			return 0;`, `&& is_known(p, h))
			counted = 0;`, finds("datagrams of known flows, and knocks")},
	{"any flow is known", `return options.error != -ENOENT;`, `return 1;`, finds("datagrams")},
	{"all that may be tokens are junk", `*junk == name`, `1`, finds("junk, and a flow with its port")},
	{"junk of anybody", `(sender & ~0xffffffULL) | (now`, `(now`, finds("junk, and a flow with its port")},
	{"junk at any time", `(now >> MOMENT & 0xffffff)`, `1`, finds("junk, and a flow with its port")},
	{"junk is not remembered", `*junk = name;`, `;`, finds("junk, and a flow with its port")},
	{"flows of TCP", `.protocol = UDP};
	struct tuple t`, `.protocol = TCP};
	struct tuple t`, finds("datagrams of known flows")},
	{"flows without ports", `__builtin_memcpy(t->four.ports, h->next, 4);`, ``, finds("datagrams of known flows")},
	{"flows of IPv6 without ports", `__builtin_memcpy(t->six.ports, h->next, 4);`, ``, finds("datagrams of known flows")},
	{"flows the other way round", `t->four.from = h->from.word[3];
	t->four.to = h->to.word[3];`, `t->four.from = h->to.word[3];
	t->four.to = h->from.word[3];`, finds("datagrams of known flows")},
	{"what is awaited is dropped", ` && !(h->protocol == UDP && !token && is_awaited(p, h))`, ``, finds("datagrams that are awaited")},
	{"SYNs are awaited", `h->protocol == UDP && !token && is_awaited(p, h)`, `!token && is_awaited(p, h)`, finds("datagrams that are awaited")},
	{"datagrams are no knocks", `knocks = e->kinds & UDP_KNOCKS;`, `knocks = 0;`, finds("datagrams that may be knocks")},
	{"right tokens are counted", `if (outcome == ACCEPTED || outcome > OUTCOMES)`, `if (outcome > OUTCOMES)`, finds("junk")},
	{"first knocks are not noted", `progress != KNOWN && note_of(`, `0 && note_of(`, finds("first knocks are noted")},
	{"who may have progress is noted", `progress != KNOWN && note_of(`, `note_of(`, finds("first knocks are noted")},
	{"nobody is noted in a crowd", `progress != KNOWN && note_of(`, `!progress && note_of(`, finds("first knocks in a crowd")},
	{"first knocks count for ever", `age >= e->lasts`, `0`, finds("how long first knocks count")},
	{"first knocks of a whole network", `*(volatile u64 *)&n->source[1] == b;`, `*(volatile u64 *)&n->source[1] << 8 == b << 8;`, finds("places of first knocks")},
	{"first knocks of half an address", `*(volatile u64 *)&n->source[0] == a &&`, `*(volatile u64 *)&n->source[0] >> 8 == a >> 8 &&`, finds("places of first knocks")},
	{"notes of others are overwritten", `		if (what && age_of(what, now) < e->lasts)
			continue;`, ``, finds("places of first knocks")},
	{"one place for each first knock", `		struct note *n = &notes->of[i];

		what`, `		struct note *n = &notes->of[0];

		what`, finds("places of first knocks")},
	{"notes stay", `port != PEEK && __sync_val_compare_and_swap(&n->what, what, new) != what`, `0`, finds("first knocks are noted")},
	{"a look takes the note", `port != PEEK && __sync`, `__sync`, finds("what is not counted after a first knock")},
	{"no time begins again", `if (known == port)`, `if (0)`, finds("a first knock again")},
	{"every time begins again", `e->kinds & RENEWS ? first : 0`, `first`, finds("a first knock again, which may be the second")},
	{"another knock is the same", `if (known == port)`, `if (port && port != PEEK)`, finds("another first knock")},
	{"parts are too large", `(e->lasts - age) * PARTS + e->lasts - 1`, `(e->lasts - age) * PARTS`, finds("what is not counted after a first knock")},
	{"the whole time is left", `(e->lasts - age) * PARTS`, `e->lasts * PARTS`, finds("what is not counted after a first knock")},
	{"what is not counted tells nothing", `		if (e->lasts)
			tells(p, e, h, source, now);`, ``, finds("what is not counted after a first knock")},
	{"what is sent on tells", `found && listed(p, h) && stays(p, h)`, `found`, finds("what is not judged after a first knock")},
	{"only what may have progress tells", `if (!counted && !knocks && !e->lasts)`, `if (!counted && !knocks)`, finds("what is not counted after a first knock")},
	{"all tells of progress", `		if (knocks)
			remember`, `		if (1)
			remember`, finds("what is not counted after a first knock")},
	{"any ICMP is a ping", `if (h->next[0] != (h->six ? 128 : 8)) /*`, `if (0) /*`, finds("what is not judged after a first knock")},
	{"the port of keys spoils knocks", `e->lasts && !(within && h->protocol == UDP && port == c->port)`, `e->lasts`, finds("datagrams after a first knock")},
	{"first knocks over the budget count", `if (within && h->protocol == TCP && has(`, `if (h->protocol == TCP && has(`, finds("first knocks over the budget")},
	{"over the budget nothing is forgotten", `if (e->lasts && !(within`, `if (within && e->lasts && !(within`, finds("first knocks over the budget")},
	{"tokens leave first knocks", `	if (e->lasts)
		take_note(e, h, source, now, 0);`, ``, finds("tokens after a first knock")},
	{"what goes on after a first knock is not remembered", `			remember(source, now, e->patience);
			p->priority = e->codes + NOTED`, `			p->priority = e->codes + NOTED`, finds("first knocks are noted")},
	{"nothing is told in a pause", `bool early = c->flags & (COUNTS_EARLY | TELLS);`, `bool early = c->flags & COUNTS_EARLY;`, finds("first knocks before a pause")},
	{"notes are given to others", `		*(volatile u64 *)&n->source[0] = a;`, `		*(volatile u64 *)&n->what = (u64)port << NOTE_PORT | time;
` + wait + `		*(volatile u64 *)&n->source[0] = a;`, func(s *scene) {
		if given := notesAtOnce(newEarlyScene(s.t, s.spec, noting), 20_000); given > 0 {
			s.t.Errorf("%d were given", given)
		}
	}},
	{"junk is left alone", `if (outcome == ACCEPTED || outcome > OUTCOMES)
			return NEXT;`, `return NEXT;`, finds("junk")},
}

func meets(s *scene) {
	if lost := meet(newEarlyScene(s.t, s.spec, remembersUDP), 20_000); lost > 0 {
		s.t.Errorf("%d sources were lost", lost)
	}
}

func crowded(s *scene) {
	if kept := beside(newEarlyScene(s.t, s.spec, remembersUDP), 5000, 1000); kept > 0 {
		s.t.Errorf("%d sources are not dropped", kept)
	}
}

// A recorder is a test that may fail.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Error(...any)          { r.failed = true }

var allFaults = flag.Bool("faults", false, "plant all faults, not eight of them")

// TestFaults: the tests find mistakes in the program.
func TestFaults(t *testing.T) {
	needBPF(t)
	dir := t.TempDir()
	text := map[string]string{}
	for _, name := range []string{"token.c", "early.h", "hash.h", "kernel.h"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[name] = string(b)
	}
	faults := append(slices.Clone(faults), earlyFaults...)
	for _, f := range faults {
		found := 0
		for _, text := range text {
			found += strings.Count(text, f.old)
		}
		if found != 1 {
			t.Errorf("%s: the program has this %d times: %s", f.name, found, f.old)
		}
	}
	chosen := rand.Perm(len(faults))
	if !*allFaults {
		chosen = chosen[:8]
	}
	for _, n := range chosen {
		f := faults[n]
		t.Run(f.name, func(t *testing.T) {
			for name, text := range text {
				faulty := strings.Replace(text, f.old, f.new, 1)
				if err := os.WriteFile(filepath.Join(dir, name), []byte(faulty), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			spec, err := readSpec(compile(t, dir, "-w")) // what is not used any more is no mistake
			if err != nil {
				t.Fatal(err)
			}
			r := &recorder{TB: t}
			s := newScene(t, spec.Copy(), nil)
			s.t, s.spec = r, spec
			f.find(s)
			if !r.failed {
				t.Error("not found")
			}
		})
	}
}

// TestSecondPass: a packet that was accepted comes by again, as from a port of a
// bridge to the bridge, and is neither refused nor counted.
func TestSecondPass(t *testing.T) { secondPass(newScene(t, nil, nil)) }

func secondPass(s *scene) {
	token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
	b := frame(s.t, datagram.packet(sender4, token[:]))
	code := s.code(s.people[0].ID, doors[0])
	for pass, priority := range []uint32{0, code, code, code} {
		if pass == 3 { // which a newer one has overtaken
			s.want("newer", datagram, sender4, s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4), 0)
		}
		v, err := s.program.run(b, priority)
		if err != nil {
			s.t.Fatal(err)
		}
		if want := (verdict{next, code}); v != want {
			s.t.Errorf("pass %d: %+v, want %+v", pass, v, want)
		}
		if outcome := s.outcome(); outcome != -min(pass, 1) {
			s.t.Errorf("pass %d counts %d", pass, outcome)
		}
	}
}

// tooEarly sends a token that was made when the pair came to be, or ahead of that.
func tooEarly(s *scene) {
	s.age(-time.Minute) // newScene's
	s.verifier.Allow(s.people[0].ID, doors[0], s.now())
	for _, at := range []time.Duration{-time.Second, 0, 4 * time.Second} {
		s.want("made before", datagram, sender4, s.credential(0, 0).Token(s.now().Add(at), unbound, key.Lane4), key.Replayed)
	}
}
