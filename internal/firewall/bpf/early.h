/* SYNs and UDP that are dropped before the tables see them.
 *
 * What is counted here is a SYN, or a datagram of no known flow, to a port of this host
 * that hides no service and that no allow entry names: see Machine.Early of
 * internal/automaton. It takes from its source's budget of attempts, and goes on with a
 * priority that says whether there was one left; the rules then need not ask theirs. If
 * none was left, it counts as a wrong port: the source's progress is forgotten, and
 * nothing else changes. So of a source that can have no progress it is dropped.
 *
 * Where something answers, right or wrong ports make no difference to what is done here,
 * nor how far a source has come: the time of an answer must not tell. So all that the
 * rules may judge is remembered as what may have made progress, until the longest step is
 * over. Where nothing answers, SYNs that are no first knock, and no decoy, are dropped
 * within the budget as well, of a source that can have no progress. Datagrams are not:
 * connection tracking may know more of them than it tells.
 *
 * There a first knock, or a decoy, of such a source is but noted, and its SYN is dropped, too:
 * a flood of forged ones makes no element in the rules' sets. With the next packet of the
 * source that the rules may judge they are told, and the note is gone. If that packet was
 * counted here, the rules judge it in the state that the knock led to. Else they put the source
 * into that state first, for as long as is left of its time, in eighths: the packet may be one
 * that they do not judge at all. So a source has a note, or an element, or neither.
 *
 * Whether a datagram begins something is for connection tracking to say. It is asked for
 * the default zone alone, and not for flows that it expects. So the rules ask it again,
 * before they look at the priority, and what a socket of this host waits for is not
 * dropped. */

enum {
	RECENT = 1 << 18,  /* places for sources; a power of 2 */
	CHOICE = 4,        /* of so many each source takes one; likewise */
	ATTEMPTS = 32768,  /* budgets; likewise */
	TRIES = 8,
	NOTES = 1 << 20,   /* places for first knocks; likewise */
	JUNK = 1024,       /* places for senders of junk; likewise */
	MOMENT = 26,       /* 2^26 ns, 67 ms */

	UDP_KNOCKS = 1, /* early.kinds */
	ECHO_KNOCKS = 2,
	TRUST = 4,      /* some senders and interfaces need no knock */
	UDP_COUNTS = 8, /* as do SYNs */
	RENEWS = 16,    /* the same first knock again means that its time begins again */

	/* What is added to the codes, and how large a block of them is. */
	OVER = 1 << 16,
	NOTED = 2 << 16, /* and the port of the first knock */
	BLOCK = 1 << 20,
	PARTS = 8, /* of the time of a note: one each is added to the other block of codes */

	/* What is remembered of a source: part of its hash, and until when, in units of
	 * 2^UNIT ns. A place that several sources share is nobody's. */
	UNIT = 17,
	TIME_BITS = 44, /* which last for 73 years of uptime */
	NOBODY = 0,
	KNOWN = 2, /* see has_progress */

	/* A note has the port of the first knock, and when it came, in units of 2^NOTE_UNIT ns. */
	NOTE_UNIT = 20,
	NOTE_PORT = 48,

	PEEK = 1 << 16, /* see noted_of */
	RENEWED = -1,
};

struct early {
	u64 seed[2];
	u64 source4[2], source6[2]; /* the bits of addresses that tell sources apart */
	u64 budget6[2];             /* those that tell budgets apart; of IPv4 they are the same */
	u64 patience;               /* how long progress may last, in ns */
	u64 full;       /* until when every source may have progress, by clock() */
	u64 cost, most; /* of one attempt, and of a whole budget, in ns */
	u32 lasts;         /* how long a first knock counts, in units of notes; 0: none is noted */
	u32 kinds;
	u32 codes, left;   /* where the blocks of priorities begin */
	u64 named_tcp[65536 / 64]; /* the ports that are not counted */
	u64 named_udp[65536 / 64];
	u64 first[65536 / 64]; /* the ports of TCP that may be a first knock; all where times tell */
};

struct places {
	u64 entry[CHOICE];
};

struct note {
	u64 source[2]; /* the bits of its address that tell it apart */
	u64 what;
};

struct notes {
	struct note of[CHOICE];
};

struct trusted {
	u32 bits; /* of what follows */
	u32 interface;
	u32 sender[4]; /* as in struct envelope */
};

struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, struct early);
	number(max_entries, 1);
} early SEC(".maps");

struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, struct places);
	number(max_entries, RECENT / CHOICE);
} recent SEC(".maps");

/* The first knocks of sources that have sent nothing since. It outlives the program. */
struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, struct notes);
	number(max_entries, NOTES / CHOICE);
} noted SEC(".maps");

/* When each budget will be whole again, by clock(). It outlives the program. */
struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, u64);
	number(max_entries, ATTEMPTS);
} attempts SEC(".maps");

/* The senders whose junk was dropped a moment ago, and when: see junk_of. */
struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, u64);
	number(max_entries, JUNK);
} junk SEC(".maps");

/* The interfaces whose packets are counted, this host's addresses, and who needs no
 * knock whatever the port is. */
struct {
	number(type, MAP_HASH);
	type(key, u32);
	type(value, u8);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} interfaces SEC(".maps");

struct {
	number(type, MAP_HASH);
	type(key, u32[4]);
	type(value, u8);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} addresses SEC(".maps");

struct {
	number(type, MAP_LPM_TRIE);
	type(key, struct trusted);
	type(value, u8);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} trusted SEC(".maps");

static inline const struct early *early_config(void)
{
	u32 zero = 0;

	return map_lookup(&early, &zero);
}

/* hash returns the hash of those bits of an address that a mask has. */
static inline u64 hash(const struct early *e, const u64 address[2], const u64 mask[2])
{
	u64 masked[2] = {address[0] & mask[0], address[1] & mask[1]};

	return siphash17(e->seed, masked, 0);
}

/* take takes one attempt from a budget, and reports whether there was one left. It is
 * that of internal/automaton's bucket. */
static inline bool take(const struct early *e, u32 index, u64 now)
{
	u64 *whole = map_lookup(&attempts, &index);
	u64 old, from;

	if (!whole)
		return 0;
	for (int i = 0; i < TRIES; i++) {
		old = *(volatile u64 *)whole;
		from = old > now ? old : now;
		if (from + e->cost - now > e->most)
			return 0;
		if (__sync_val_compare_and_swap(whole, old, from + e->cost) == old)
			return 1;
	}
	return 0;
}

static inline u32 places_of(u64 hash) { return hash & (RECENT / CHOICE - 1); }
static inline u64 name_of(u64 hash) { return hash >> TIME_BITS ?: 1; }
static inline u64 until_of(u64 entry) { return entry & ((1ULL << TIME_BITS) - 1); }

/* The next four are not static, so that the kernel verifies each once, apart from what calls
 * it. Otherwise it would multiply their paths by those of their callers, and Linux 6.1 would
 * refuse the program. Such a function takes numbers, and has to return one. */

/* remember notes that a source may have made progress: where it is noted already, or where
 * nobody is. If neither is found, or another processor writes there at the same moment, the
 * place becomes nobody's. */
noinline int remember(u64 hash, u64 now, u64 patience)
{
	u32 index = places_of(hash), chosen = 0;
	struct places *places = map_lookup(&recent, &index);
	u64 until = ((now + patience) >> UNIT) + 1, name = name_of(hash), old;

	if (!places)
		return 0;
	now >>= UNIT;
	for (u32 i = 0; i < CHOICE; i++) {
		old = *(volatile u64 *)&places->entry[i];
		if (until_of(old) <= now) {
			chosen = i;
		} else if (old >> TIME_BITS == name) {
			chosen = i;
			break;
		}
	}
	u64 *place = &places->entry[chosen];
	old = *(volatile u64 *)place;
	if (old >> TIME_BITS != name && until_of(old) > now)
		name = NOBODY;
	if (__sync_val_compare_and_swap(place, old, name << TIME_BITS | until) != old)
		*(volatile u64 *)place = (u64)NOBODY << TIME_BITS | until;
	return 0;
}

/* has_progress reports whether a source may have made progress, and is KNOWN if it is not one
 * of several that share a place; before the time full any may. To forget it the caller sees to it that it has none any more; for a fifth of a millisecond it
 * still may have, by a packet that another processor is about to judge. */
noinline int has_progress(u64 hash, u64 now, u64 full, u32 forget)
{
	u32 index = places_of(hash);
	struct places *places = map_lookup(&recent, &index);
	u64 name = name_of(hash), old, soon;

	if (!places || now < full)
		return KNOWN;
	now >>= UNIT;
	soon = now + 2;
	for (u32 i = 0; i < CHOICE; i++) {
		u64 *place = &places->entry[i];

		old = *(volatile u64 *)place;
		if (until_of(old) <= now)
			continue;
		if (old >> TIME_BITS == NOBODY)
			return 1;
		if (old >> TIME_BITS != name)
			continue;
		/* Not again with each packet, or a fast sender would never be forgotten. */
		if (forget && until_of(old) > soon)
			__sync_val_compare_and_swap(place, old, name << TIME_BITS | soon);
		return KNOWN;
	}
	return 0;
}

/* age_of returns how old a note is, whatever its port is. */
static inline u64 age_of(u64 what, u64 now)
{
	return ((now >> NOTE_UNIT) - what) & ((1ULL << NOTE_PORT) - 1);
}

/* is_of reports whether a note is of a source. */
static inline bool is_of(const struct note *n, u64 a, u64 b)
{
	return *(volatile u64 *)&n->source[0] == a && *(volatile u64 *)&n->source[1] == b;
}

/* note notes the first knock of a source, by its hash and the two halves of its address, and
 * reports whether there was a place. The source has no note. A note of port 0 is none: another
 * processor may not take one for its source's while it is being written. */
noinline int note(u64 hash, u64 a, u64 b, u64 now, u32 port)
{
	u32 index = hash & (NOTES / CHOICE - 1);
	struct notes *notes = map_lookup(&noted, &index);
	const struct early *e = early_config();
	u64 what, time = now >> NOTE_UNIT;

	if (!notes || !e)
		return 0;
	for (u32 i = 0; i < CHOICE; i++) {
		struct note *n = &notes->of[i];

		what = *(volatile u64 *)&n->what;
		if (what && age_of(what, now) < e->lasts)
			continue;
		if (__sync_val_compare_and_swap(&n->what, what, time) != what)
			return 0;
		*(volatile u64 *)&n->source[0] = a;
		*(volatile u64 *)&n->source[1] = b;
		__sync_val_compare_and_swap(&n->what, time, (u64)port << NOTE_PORT | time);
		return 1;
	}
	return 0;
}

/* noted_of returns what is noted of a source, and forgets it: the port of its first knock, and
 * in the lowest four bits how many parts of its time are left, from 1 to PARTS; 0 if nothing
 * is. If the port is this one, its time begins again, which is RENEWED. PEEK is no port, and
 * nothing is forgotten. */
noinline int noted_of(u64 hash, u64 a, u64 b, u64 now, u32 port)
{
	u32 index = hash & (NOTES / CHOICE - 1), known;
	struct notes *notes = map_lookup(&noted, &index);
	const struct early *e = early_config();
	u64 what, age, new = 0;

	if (!notes || !e || !e->lasts)
		return 0;
	for (u32 i = 0; i < CHOICE; i++) {
		struct note *n = &notes->of[i];

		if (!is_of(n, a, b))
			continue;
		what = *(volatile u64 *)&n->what;
		known = what >> NOTE_PORT;
		age = age_of(what, now);
		if (!known || age >= e->lasts || !is_of(n, a, b))
			continue;
		if (known == port)
			new = (u64)port << NOTE_PORT | now >> NOTE_UNIT;
		if (port != PEEK && __sync_val_compare_and_swap(&n->what, what, new) != what)
			return 0; /* another processor was faster */
		return new ? RENEWED : (int)(known << 4 | ((e->lasts - age) * PARTS + e->lasts - 1) / e->lasts);
	}
	return 0;
}

/* source_mask returns the mask of the bits of a packet's sender that tell sources apart. */
static inline const u64 *source_mask(const struct early *e, const struct headers *h)
{
	return h->six ? e->source6 : e->source4;
}

/* source_of returns the hash of who a packet counts as. */
static inline u64 source_of(const struct early *e, const struct headers *h)
{
	return hash(e, h->from.pair, source_mask(e, h));
}

/* note_of and take_note are note and noted_of for the source of a packet. */
static inline int note_of(const struct early *e, const struct headers *h, u64 hash, u64 now, u32 port)
{
	const u64 *mask = source_mask(e, h);

	return note(hash, h->from.pair[0] & mask[0], h->from.pair[1] & mask[1], now, port);
}

static inline int take_note(const struct early *e, const struct headers *h, u64 hash, u64 now, u32 port)
{
	const u64 *mask = source_mask(e, h);

	return noted_of(hash, h->from.pair[0] & mask[0], h->from.pair[1] & mask[1], now, port);
}

/* listed reports whether a packet came by an interface whose packets are counted, in a frame
 * for this host, and is for one of its addresses. */
static inline bool listed(struct packet *p, const struct headers *h)
{
	u32 interface = p->ifindex;

	/* An IPv6 packet to what stands for an IPv4 address here is for nobody. */
	if (h->six && !h->to.pair[0] && h->to.word[2] == be32(0xffff))
		return 0;
	return p->pkt_type == PACKET_HOST && map_lookup(&interfaces, &interface) && map_lookup(&addresses, h->to.word);
}

/* stays reports whether the kernel would not send a packet on. A list of addresses may be
 * old: what is sent on is not for this host. */
static noinline int stays(struct packet *p, const struct headers *h)
{
	struct fib route = {};
	long found;

	route.family = h->six ? AF_INET6 : AF_INET;
	route.interface = p->ifindex;
	if (h->six) {
		__builtin_memcpy(route.from, &h->from, 16);
		__builtin_memcpy(route.to, &h->to, 16);
	} else {
		route.from[0] = h->from.word[3];
		route.to[0] = h->to.word[3];
	}
	found = fib_lookup(p, &route, sizeof route, 0);
	return found == FIB_NOT_FORWARDED || found == FIB_FORWARDING_DISABLED;
}

/* trusts reports whether the sender, or the interface, needs no knock. */
static inline bool trusts(struct packet *p, const struct headers *h)
{
	struct trusted t = {.bits = (1 + 4) * 32, .interface = p->ifindex};

	__builtin_memcpy(t.sender, &h->from, 16);
	return map_lookup(&trusted, &t);
}

/* tuple_of returns the size of what it fills. */
static inline u32 tuple_of(const struct headers *h, struct tuple *t)
{
	if (h->six) {
		__builtin_memcpy(t->six.from, &h->from, 16);
		__builtin_memcpy(t->six.to, &h->to, 16);
		__builtin_memcpy(t->six.ports, h->next, 4);
		return sizeof t->six;
	}
	t->four.from = h->from.word[3];
	t->four.to = h->to.word[3];
	__builtin_memcpy(t->four.ports, h->next, 4);
	return sizeof t->four;
}

/* is_known reports whether a datagram is of a flow that connection tracking knows, or may be
 * of one. Where the kernel lets no program ask, the loader takes the calls out, and has no
 * datagrams counted. */
static noinline int is_known(struct packet *p, const struct headers *h)
{
	struct ct_options options = {.netns = CURRENT_NETNS, .protocol = UDP};
	struct tuple t = {};
	struct nf_conn *ct;

	ct = bpf_skb_ct_lookup(p, &t, tuple_of(h, &t), &options, sizeof options);
	if (!ct)
		return options.error != -ENOENT;
	bpf_ct_release(ct);
	return 1;
}

/* is_awaited reports whether a socket of this host waits for a datagram. */
static noinline int is_awaited(struct packet *p, const struct headers *h)
{
	struct tuple t = {};
	void *socket = socket_of_udp(p, &t, tuple_of(h, &t), CURRENT_NETNS, 0);

	if (socket)
		release_socket(socket);
	return socket != 0;
}

/* junk_of returns the place of a sender's junk, and what is there if some was dropped in this
 * moment. Then connection tracking is not asked again: that costs as much as all else that
 * is done with junk. It would find a flow only if somebody's had got the port of keys. */
static inline u64 *junk_of(const struct headers *h, u64 now, u64 *name)
{
	u64 sender = (h->from.pair[0] ^ h->from.pair[1]) * 0x9e3779b97f4a7c15ULL;
	u32 index = sender >> 32 & (JUNK - 1);

	*name = (sender & ~0xffffffULL) | (now >> MOMENT & 0xffffff);
	return map_lookup(&junk, &index);
}

/* has reports whether a port is in a set. */
static inline bool has(const u64 *ports, u64 port)
{
	/* The compiler must not leave the mask out: Linux 6.1 does not see that it is needless. */
	__asm__ volatile("" : "+r"(port));
	return ports[port / 64 & 65536 / 64 - 1] >> port % 64 & 1;
}

/* is_counted reports whether a packet is counted here. */
static inline bool is_counted(struct packet *p, const struct early *e, const struct headers *h)
{
	const u64 *named = h->protocol == UDP ? e->named_udp : e->named_tcp;

	return !has(named, be16_at(h->next + 2)) && listed(p, h) && !(e->kinds & TRUST && trusts(p, h));
}

/* uses_token notes that the rules are about to judge a right token, which takes what progress
 * there was. */
static noinline int uses_token(const struct headers *h)
{
	const struct early *e = early_config();
	u64 source, now = clock();

	if (!e)
		return 0;
	source = source_of(e, h);
	if (e->lasts)
		take_note(e, h, source, now, 0);
	remember(source, now, e->patience);
	return 0;
}

/* tells has the rules put a source into the state that is noted of it, before they do anything
 * with a packet that is not counted here. What is for another host tells them nothing. */
static inline void tells(struct packet *p, const struct early *e, const struct headers *h, u64 source, u64 now)
{
	int found = take_note(e, h, source, now, PEEK);

	if (found && listed(p, h) && stays(p, h)) {
		found = take_note(e, h, source, now, 0);
		if (found)
			p->priority = e->left + ((found & 0xf) << 16) + (found >> 4);
	}
}

/* drops_early reports whether a packet is to be dropped. It counts what is counted here, or
 * else nothing, while the rules are being replaced. For what looks like a token no socket
 * waits. */
static noinline int drops_early(struct packet *p, const struct config *c, const struct headers *h, bool token)
{
	const struct early *e = early_config();
	bool counts = c->flags & COUNTS_EARLY, counted = 0, knocks = 1, within, goes_on;
	u64 now = clock(), source, budget, name = 0, *junk = 0;
	u32 port = 0, first = 0;
	int found, progress;

	/* Counted already, on another interface. */
	if (!e || p->priority - e->codes < BLOCK || p->priority - e->left < BLOCK)
		return 0;
	if (h->plain && h->protocol == TCP) {
		if (!is_syn(h->next))
			return 0;
		counted = counts && is_counted(p, e, h);
	} else if (h->plain && h->protocol == UDP) {
		counted = counts && e->kinds & UDP_COUNTS && is_counted(p, e, h);
		knocks = e->kinds & UDP_KNOCKS;
		if (token)
			junk = junk_of(h, now, &name);
		if (counted && !(junk && *junk == name) && is_known(p, h))
			return 0;
	} else if (h->plain && h->protocol == (h->six ? ICMPV6 : ICMP)) {
		if (h->next[0] != (h->six ? 128 : 8)) /* of an echo request; its code does not matter */
			return 0;
		knocks = e->kinds & ECHO_KNOCKS;
	}
	counted = counted && stays(p, h);
	if (!counted && !knocks && !e->lasts)
		return 0;
	source = source_of(e, h);
	if (!counted) {
		if (e->lasts)
			tells(p, e, h, source, now);
		if (knocks)
			remember(source, now, e->patience);
		return 0;
	}
	budget = source;
	if (h->six)
		budget = hash(e, h->from.pair, e->budget6);
	within = take(e, budget >> 20 & (ATTEMPTS - 1), now);
	port = be16_at(h->next + 2);
	if (within && h->protocol == TCP && has(e->first, port))
		first = port;
	goes_on = within && (h->protocol == UDP || first);
	/* Within the budget what comes to the port of keys is no knock, wrong or right. */
	if (e->lasts && !(within && h->protocol == UDP && port == c->port)) {
		found = take_note(e, h, source, now, e->kinds & RENEWS ? first : 0);
		if (found == RENEWED)
			return 1;
		if (found && within) {
			remember(source, now, e->patience);
			p->priority = e->codes + NOTED + (found >> 4);
			return 0;
		}
	}
	/* Who goes on within the budget is not forgotten, even for a moment. */
	if (!goes_on || (first && e->lasts)) {
		progress = has_progress(source, now, e->full, !within);
		/* Under a flood nearly all sources share a place. Hardly one has progress, and begins
		 * again. */
		if (goes_on ? progress != KNOWN && note_of(e, h, source, now, first)
			    : !progress && !(h->protocol == UDP && !token && is_awaited(p, h))) {
			if (junk)
				*junk = name;
			return 1;
		}
	}
	if (within)
		remember(source, now, e->patience);
	p->priority = within ? e->codes : e->codes + OVER;
	return 0;
}
