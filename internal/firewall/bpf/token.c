//go:build ignore

/* The program that verifies tokens, and drops what early.h says. It is attached at the
 * ingress of interfaces, and so sees packets before netfilter does.
 *
 * A packet that can be a token is a candidate. If its token is right, the packet
 * gets the code of the device and door as its priority, or as its mark, and the
 * tables do the rest. Nothing that others can see or use changes before the tag is
 * verified. No candidate is dropped here: before the kernel has looked for its
 * route, a packet may still be for another namespace, or for a proxy.
 *
 * What it does with a token is what Verifier of internal/key does. The layout of
 * a token is in that package's comment, and the maps' structures have their like
 * in layout.go. */

#include "kernel.h"
#include "hash.h"

char licence[] SEC("license") = "Dual MIT/GPL";

enum {
	MUST_BIND = 1, /* config.flags */
	IN_MARK = 2,
	COUNTS_EARLY = 4,
	TELLS = 8, /* the rules of first knocks, also while nothing is counted */

	TOKEN = 40,
	LONGEST = 32 + 40 + 60 + TOKEN, /* with headers of link layer, IPv6 and TCP, all of its options */
	VERSION = 1,
	BOUND = 1, /* head.flags */
	LANE = 2,
	CLOSE = 4,
};

/* What is added to the code of a token that closes its door. No code has it. */
#define CLOSING 0x80000000u

/* The outcomes that are counted: accepted, and the refusals of internal/key in
 * their order. */
enum outcome {
	ACCEPTED,
	UNKNOWN_DEVICE,
	MALFORMED,
	EXPIRED,
	STALE,
	EARLY,
	UNBOUND,
	NOT_ALLOWED,
	REPLAYED,
	FORGED,
	OUTCOMES,
	AGAIN,  /* accepted before, on another interface; not counted, as the next is not */
	MARKED, /* by somebody else */
};

/* What else is counted. */
enum {
	DROPPED = OUTCOMES,
	DROPPED_BYTES,
	COUNTERS,
};

struct config {
	u32 layout; /* of these structures */
	u16 port; /* or 0: no token is verified */
	u16 flags;
	u64 site[2];
	u64 behind, ahead; /* the window, in ns */
	u64 offset;        /* from UTC to TAI when the program was loaded, in ns */
	u64 doubt;         /* how much larger it may have become, in ns; or 0 */
};

struct device {
	u32 inner[8], outer[8]; /* HMAC's states after the blocks of its keys */
	u64 mask[2];
	u64 until; /* ns since 1970; or 0, for ever */
};

struct pair {
	u64 device;
	u32 door;
	u32 zero;
};

/* What a code was last used for. It outlives the program: the next one has the
 * same map. */
struct use {
	u64 last[2]; /* the newest time accepted in each lane; or 0 */
	u64 since;   /* when the pair came to be, in ns since the boot */
};

struct {
	number(type, MAP_ARRAY);
	type(key, u32);
	type(value, struct config);
	number(max_entries, 1);
} config SEC(".maps");

struct {
	number(type, MAP_HASH);
	type(key, u64);
	type(value, struct device);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} devices SEC(".maps");

struct {
	number(type, MAP_HASH);
	type(key, struct pair);
	type(value, u32);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} access SEC(".maps");

struct {
	number(type, MAP_HASH);
	type(key, u32);
	type(value, struct use);
	number(max_entries, 1);
	number(map_flags, NO_PREALLOC);
} uses SEC(".maps");

struct {
	number(type, MAP_PERCPU_ARRAY);
	type(key, u32);
	type(value, u64);
	number(max_entries, COUNTERS);
} counts SEC(".maps");

/* What a token says, and what it is made of. */
struct token {
	u64 tag[2];
	struct {
		u64 device;
		u64 time;
		u32 door;
		u8 version;
		u8 flags;
		u16 zero;
	} head;
};

/* What the headers of a packet say. */
struct headers {
	union {
		u32 word[4]; /* in network byte order; IPv4 addresses are mapped */
		u64 pair[2];
	} from, to;
	bool six;
	bool plain;  /* no options, no extension headers, not a fragment */
	u8 protocol;
	u8 next[14]; /* TCP's to the flags, UDP's or ICMP's, if it is plain */
	u32 start;   /* of these, from the IP header on */
	u32 len;     /* of all */
};

enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58 };

/* read copies bytes of a packet, from the IP header on. Part of a packet may not
 * be in one piece of memory, as a SYN's data; then it is made one. */
static inline bool read(struct packet *p, u32 offset, void *to, u32 len)
{
	if (!load_relative(p, offset, to, len, HEADER_NET))
		return 1;
	return !pull_data(p, p->len) && !load_relative(p, offset, to, len, HEADER_NET);
}

static inline u16 be16_at(const u8 *b) { return (u16)b[0] << 8 | b[1]; }

static inline bool ip_header(struct packet *p, struct headers *h)
{
	u8 ip[40];

	if (p->protocol == be16(ETH_P_IP)) {
		if (!read(p, 0, ip, 20))
			return 0;
		h->plain = ip[0] == 0x45 && !(be16_at(ip + 6) & 0x3fff);
		h->protocol = ip[9];
		h->start = 20;
		h->len = be16_at(ip + 2);
		h->from.pair[0] = h->to.pair[0] = 0;
		h->from.word[2] = h->to.word[2] = be32(0xffff);
		__builtin_memcpy(&h->from.word[3], ip + 12, 4);
		__builtin_memcpy(&h->to.word[3], ip + 16, 4);
		return 1;
	}
	if (p->protocol == be16(ETH_P_IPV6)) {
		if (!read(p, 0, ip, 40))
			return 0;
		h->six = 1;
		h->plain = ip[0] >> 4 == 6;
		h->protocol = ip[6];
		h->start = 40;
		h->len = 40 + be16_at(ip + 4);
		__builtin_memcpy(&h->from, ip + 8, 16);
		__builtin_memcpy(&h->to, ip + 24, 16);
		return 1;
	}
	return 0;
}

/* read_headers reports whether a packet is of IP. What is cut off in the header of TCP, UDP
 * or ICMP is not plain. */
static inline bool read_headers(struct packet *p, struct headers *h)
{
	if (!ip_header(p, h))
		return 0;
	if (h->protocol == TCP)
		h->plain = h->plain && read(p, h->start, h->next, 14);
	else if (h->protocol == UDP || h->protocol == ICMP || h->protocol == ICMPV6)
		h->plain = h->plain && read(p, h->start, h->next, 8);
	return 1;
}

/* is_syn reports whether a TCP header has SYN without FIN, RST and ACK. */
static inline bool is_syn(const u8 *tcp) { return (tcp[13] & 0x17) == 0x02; }

/* token_at returns where a packet's token begins, if it can have one, from the IP header
 * on, or 0. What has IP options, extension headers or is a fragment has none. */
static inline u32 token_at(struct packet *p, const struct config *c, const struct headers *h)
{
	const u8 *next = h->next;
	u32 size = 8;

	if (p->len > LONGEST || !h->plain)
		return 0;
	if (h->protocol == (h->six ? ICMPV6 : ICMP)) {
		if (next[0] != (h->six ? 128 : 8) || next[1] != 0)
			return 0;
	} else if (h->protocol == UDP) {
		if (be16_at(next + 2) != c->port || be16_at(next + 4) != 8 + TOKEN)
			return 0;
	} else if (h->protocol == TCP) {
		if (be16_at(next + 2) != c->port || !is_syn(next))
			return 0;
		size = (next[12] >> 4) * 4;
		if (size < 20)
			return 0;
	} else {
		return 0;
	}
	return h->len == h->start + size + TOKEN ? h->start + size : 0;
}

#include "early.h"

/* in_window returns ACCEPTED, STALE or EARLY. */
static inline enum outcome in_window(u64 time, u64 now, const struct config *c)
{
	if (time < now)
		return now - time > c->behind ? STALE : ACCEPTED;
	return time - now > c->ahead ? EARLY : ACCEPTED;
}

/* tag_is_right reports whether the tag is the first 16 bytes of the HMAC-SHA-256 of
 * the head and the address. */
static noinline int tag_is_right(const struct device *d, const struct token *t, const u32 source[4])
{
	const u32 *head = (const u32 *)&t->head, *tag = (const u32 *)t->tag;
	bool bound = t->head.flags & BOUND;
	u32 state[8], w[16];
	u32 different = 0;

	for (int i = 0; i < 8; i++)
		state[i] = d->inner[i];
	for (int i = 0; i < 6; i++)
		w[i] = be32(head[i]);
	for (int i = 0; i < 4; i++)
		w[6 + i] = bound ? be32(source[i]) : 0;
	w[10] = 0x80000000;
	w[11] = w[12] = w[13] = w[14] = 0;
	w[15] = (64 + 40) * 8;
	sha256_block(state, w);

	for (int i = 0; i < 8; i++) {
		w[i] = state[i];
		state[i] = d->outer[i];
	}
	w[8] = 0x80000000;
	w[9] = w[10] = w[11] = w[12] = w[13] = w[14] = 0;
	w[15] = (64 + 32) * 8;
	sha256_block(state, w);

	for (int i = 0; i < 4; i++)
		different |= state[i] ^ be32(tag[i]);
	return !different;
}

/* carried returns the code that the packet has: in its mark, or as its priority. A mark
 * may also be one that others have set. */
static inline u32 carried(struct packet *p, const struct config *c)
{
	u32 mark = p->mark, priority = p->priority;

	barrier();
	return c->flags & IN_MARK ? mark : priority;
}

static inline void carry(struct packet *p, const struct config *c, u32 code)
{
	if (c->flags & IN_MARK) {
		p->mark = code;
		barrier();
	} else {
		p->priority = code;
	}
}

static inline enum outcome verify(struct packet *p, const struct config *c, const u32 source[4],
				  struct token *t)
{
	struct pair pair = {};
	enum outcome when;
	u64 now, old;

	t->head.device ^= siphash17(c->site, t->tag, 0);
	struct device *d = map_lookup(&devices, &t->head.device);
	if (!d)
		return UNKNOWN_DEVICE;
	t->head.time ^= siphash17(d->mask, t->tag, 1);
	*(u64 *)&t->head.door ^= siphash17(d->mask, t->tag, 2);
	if (t->head.version != VERSION || t->head.flags & ~(BOUND | LANE | CLOSE) || t->head.zero)
		return MALFORMED;

	/* There is no clock of UTC for programs. That of TAI is set with it. Time
	 * daemons tell the kernel late after boot that TAI is 37 s ahead, and from
	 * then on both differ by that much more. */
	now = clock_tai() - c->offset;
	if (d->until && now >= d->until)
		return EXPIRED;
	when = in_window(t->head.time, now, c);
	if (when != ACCEPTED && (!c->doubt || in_window(t->head.time, now - c->doubt, c) != ACCEPTED))
		return when;
	if (c->flags & MUST_BIND && !(t->head.flags & BOUND))
		return UNBOUND;

	pair.device = t->head.device;
	pair.door = t->head.door;
	u32 *code = map_lookup(&access, &pair);
	if (!code)
		return NOT_ALLOWED;
	struct use *use = map_lookup(&uses, code);
	if (!use)
		return NOT_ALLOWED;
	/* A mark is others' to set, and stays. */
	if (c->flags & IN_MARK && p->mark && (p->mark & ~CLOSING) != *code)
		return MARKED;
	/* A token that was made before may have been used. When that was is counted
	 * back from now, as the clock may have been wrong then. */
	if (t->head.time <= now - (clock_boot() - use->since) + c->ahead)
		return REPLAYED;
	u64 *last = t->head.flags & LANE ? &use->last[1] : &use->last[0];
	old = *(volatile u64 *)last;
	/* A packet comes by here twice if its interface is a port of a bridge or a
	 * bond, and newer tokens may have overtaken it. Nobody else knows the code. */
	if (t->head.time <= old)
		return (carried(p, c) & ~CLOSING) == *code ? AGAIN : REPLAYED;
	if (!tag_is_right(d, t, source))
		return FORGED;

	/* Of several tokens at the same moment each may find that it is newer than
	 * the last one. Who changes what it has read wins; the others look again. */
	for (int i = 0; i < 16; i++) {
		u64 found = __sync_val_compare_and_swap(last, old, t->head.time);

		if (found == old) {
			carry(p, c, t->head.flags & CLOSE ? *code | CLOSING : *code);
			return ACCEPTED;
		}
		old = found;
		if (t->head.time <= old)
			break;
	}
	return REPLAYED;
}

static inline void count(u32 what, u64 n)
{
	u64 *count = map_lookup(&counts, &what);

	if (count)
		*count += n;
}

/* A frame with a VLAN's tag comes again, without it, on the VLAN's own interface, which
 * gives it a priority first. One with the tag of VLAN 0 has no VLAN, only a priority on
 * the wire, and is taken as it is. */
SEC("tc")
int postern_token(struct packet *p)
{
	struct headers h = {};
	enum outcome outcome;
	struct token t;
	u32 zero = 0, at = 0;

	struct config *c = map_lookup(&config, &zero);
	if (!c || (p->vlan_present && p->vlan_tci & VLAN_ID))
		return NEXT;
	bool early = c->flags & (COUNTS_EARLY | TELLS);
	if ((!early && (!c->port || p->len > LONGEST)) || !read_headers(p, &h))
		return NEXT;
	if (c->port)
		at = token_at(p, c, &h);
	if (at && read(p, at, &t, sizeof t)) {
		outcome = verify(p, c, h.from.word, &t);
		if (outcome < OUTCOMES)
			count(outcome, 1);
		if (outcome == ACCEPTED && early)
			uses_token(&h);
		if (outcome == ACCEPTED || outcome > OUTCOMES)
			return NEXT;
	}
	if (early && drops_early(p, c, &h, at != 0)) {
		count(DROPPED, 1);
		count(DROPPED_BYTES, h.len);
		return DROP;
	}
	return NEXT;
}
