/* SYNs that are dropped before the tables see them.
 *
 * What is counted here is a SYN to a port of this host that hides no service and that
 * no allow entry names: see Machine.Early of internal/automaton. It takes from its
 * source's budget of attempts, and goes on with a priority that says whether there was
 * one left; the rules then need not ask theirs. If none was left, the SYN counts as a
 * wrong port: the source's progress is forgotten, and nothing else changes. So of a
 * source that can have no progress it is dropped.
 *
 * Right or wrong ports make no difference to what is done here, nor how far a source
 * has come: the time of an answer must not tell. So all that the rules may judge is
 * remembered as what may have made progress, until the longest step is over. */

enum {
	RECENT = 1 << 18,  /* places for sources; a power of 2 */
	ATTEMPTS = 32768,  /* budgets; likewise */
	TRIES = 8,

	UDP_KNOCKS = 1, /* early.kinds */
	ECHO_KNOCKS = 2,
	TRUST = 4, /* some senders and interfaces need no knock */

	/* What is remembered of a source: part of its hash, and until when, in units of
	 * 2^UNIT ns. Where several share a place, it is nobody's. */
	UNIT = 17,
	TIME_BITS = 40,
	NOBODY = 0,
};

struct early {
	u64 seed[2];
	u64 source4[2], source6[2]; /* the bits of addresses that tell sources apart */
	u64 budget6[2];             /* those that tell budgets apart; of IPv4 they are the same */
	u64 patience;               /* how long progress may last, in ns */
	u64 full;       /* until when every source may have progress, by clock() */
	u64 cost, most; /* of one attempt, and of a whole budget, in ns */
	u32 counted, over; /* the priorities */
	u32 kinds;
	u32 zero;
	u64 named[65536 / 64]; /* the ports that are not counted */
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
	type(value, u64);
	number(max_entries, RECENT);
} recent SEC(".maps");

/* When each budget will be whole again, by clock(). It outlives the program. */
struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, u64);
	number(max_entries, ATTEMPTS);
} attempts SEC(".maps");

/* The interfaces whose SYNs are counted, this host's addresses, and who needs no
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

/* What of a packet's IP header matters here. */
struct header {
	union {
		u32 word[4]; /* as in struct envelope */
		u64 pair[2];
	} from, to;
	bool six;
	bool plain; /* no options, no extension headers, not a fragment */
	u8 protocol;
	u32 start; /* of what follows */
	u32 len;   /* of all */
};

static inline bool ip_header(struct packet *p, struct header *ip)
{
	u8 h[40];

	if (p->protocol == be16(ETH_P_IP)) {
		if (!read(p, 0, h, 20))
			return 0;
		ip->plain = h[0] == 0x45 && !(be16_at(h + 6) & 0x3fff);
		ip->protocol = h[9];
		ip->start = 20;
		ip->len = be16_at(h + 2);
		ip->from.pair[0] = ip->to.pair[0] = 0;
		ip->from.word[2] = ip->to.word[2] = be32(0xffff);
		__builtin_memcpy(&ip->from.word[3], h + 12, 4);
		__builtin_memcpy(&ip->to.word[3], h + 16, 4);
		return 1;
	}
	if (p->protocol == be16(ETH_P_IPV6)) {
		if (!read(p, 0, h, 40))
			return 0;
		ip->six = 1;
		ip->plain = h[0] >> 4 == 6;
		ip->protocol = h[6];
		ip->start = 40;
		ip->len = 40 + be16_at(h + 4);
		__builtin_memcpy(&ip->from, h + 8, 16);
		__builtin_memcpy(&ip->to, h + 24, 16);
		return 1;
	}
	return 0;
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

static inline u64 place_of(u64 hash) { return hash & (RECENT - 1); }
static inline u64 name_of(u64 hash) { return hash >> TIME_BITS ?: 1; }

/* remember notes that a source may have made progress. */
static inline void remember(const struct early *e, u64 hash, u64 now)
{
	u32 index = place_of(hash);
	u64 *place = map_lookup(&recent, &index);
	u64 until = ((now + e->patience) >> UNIT) + 1, name = name_of(hash), old;

	if (!place)
		return;
	old = *(volatile u64 *)place;
	if (old >> TIME_BITS != name && (old & ((1ULL << TIME_BITS) - 1)) > now >> UNIT)
		name = NOBODY;
	if (__sync_val_compare_and_swap(place, old, name << TIME_BITS | until) != old)
		*(volatile u64 *)place = (u64)NOBODY << TIME_BITS | until;
}

/* remember_sender notes the same of the sender of a token. */
static inline void remember_sender(const struct early *e, const u32 sender[4])
{
	u64 from[2];
	bool four;

	__builtin_memcpy(from, sender, 16);
	four = !from[0] && sender[2] == be32(0xffff);
	remember(e, hash(e, from, four ? e->source4 : e->source6), clock());
}

/* forget reports whether a source may have made progress. The caller sees to it that
 * it has none any more; for a fifth of a millisecond it still may have, by a packet that
 * another processor is about to judge. */
static inline bool forget(const struct early *e, u64 hash, u64 now)
{
	u32 index = place_of(hash);
	u64 *place = map_lookup(&recent, &index);
	u64 old, until, soon = (now >> UNIT) + 2;

	if (!place || now < e->full)
		return 1;
	old = *(volatile u64 *)place;
	until = old & ((1ULL << TIME_BITS) - 1);
	if (until <= now >> UNIT)
		return 0;
	/* Not again with each packet, or a fast sender would never be forgotten. */
	if (until > soon && old >> TIME_BITS == name_of(hash))
		__sync_val_compare_and_swap(place, old, name_of(hash) << TIME_BITS | soon);
	return 1;
}

/* here reports whether a packet is for this host, and came by an interface whose SYNs
 * are counted. A list of addresses may be old: what the kernel would send on is not
 * for this host. */
static inline bool here(struct packet *p, const struct header *ip)
{
	struct fib route = {};
	u32 interface = p->ifindex;
	long found;

	/* An IPv6 packet to what stands for an IPv4 address here is for nobody. */
	if (ip->six && !ip->to.pair[0] && ip->to.word[2] == be32(0xffff))
		return 0;
	if (p->pkt_type != PACKET_HOST || !map_lookup(&interfaces, &interface) || !map_lookup(&addresses, ip->to.word))
		return 0;
	route.family = ip->six ? AF_INET6 : AF_INET;
	route.interface = interface;
	if (ip->six) {
		__builtin_memcpy(route.from, &ip->from, 16);
		__builtin_memcpy(route.to, &ip->to, 16);
	} else {
		route.from[0] = ip->from.word[3];
		route.to[0] = ip->to.word[3];
	}
	found = fib_lookup(p, &route, sizeof route, 0);
	return found == FIB_NOT_FORWARDED || found == FIB_FORWARDING_DISABLED;
}

/* trusts reports whether the sender, or the interface, needs no knock. */
static inline bool trusts(struct packet *p, const struct header *ip)
{
	struct trusted t = {.bits = (1 + 4) * 32, .interface = p->ifindex};

	__builtin_memcpy(t.sender, &ip->from, 16);
	return map_lookup(&trusted, &t);
}

/* drops_early reports whether a packet is to be dropped, and how long it is from the IP
 * header on. It counts what is counted here. */
static noinline int drops_early(struct packet *p, const struct early *e, u32 *len)
{
	struct header header = {}, *ip = &header;
	u64 now, source, budget;
	u8 tcp[14];
	u16 port;

	/* Counted already, on another interface. */
	if (p->priority == e->counted || p->priority == e->over)
		return 0;
	if (!ip_header(p, ip))
		return 0;
	if (ip->plain && ip->protocol == 6) {
		if (!read(p, ip->start, tcp, sizeof tcp))
			return 0;
		/* SYN without FIN, RST and ACK */
		if ((tcp[13] & 0x17) != 0x02)
			return 0;
	} else if (ip->plain && ip->protocol == 17) {
		if (!(e->kinds & UDP_KNOCKS))
			return 0;
	} else if (ip->plain && ip->protocol == (ip->six ? 58 : 1)) {
		if (!(e->kinds & ECHO_KNOCKS))
			return 0;
	}
	source = hash(e, ip->from.pair, ip->six ? e->source6 : e->source4);
	now = clock();
	if (!ip->plain || ip->protocol != 6)
		goto uncounted;
	port = be16_at(tcp + 2);
	if (e->named[port / 64] >> port % 64 & 1 || !here(p, ip) || (e->kinds & TRUST && trusts(p, ip)))
		goto uncounted;
	budget = source;
	if (ip->six)
		budget = hash(e, ip->from.pair, e->budget6);
	if (take(e, budget >> 20 & (ATTEMPTS - 1), now)) {
		remember(e, source, now);
		p->priority = e->counted;
		return 0;
	}
	if (!forget(e, source, now)) {
		*len = ip->len;
		return 1;
	}
	p->priority = e->over;
	return 0;

uncounted:
	remember(e, source, now);
	return 0;
}
