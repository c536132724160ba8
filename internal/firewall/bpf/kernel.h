/* What the program uses of the kernel's interface to BPF programs. The numbers
 * and layouts are of include/uapi/linux/bpf.h, pkt_cls.h, if_ether.h and
 * if_packet.h, and never change. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef _Bool bool;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tokens are little-endian, and so is this program"
#endif

#define be16(x) __builtin_bswap16(x)
#define be32(x) __builtin_bswap32(x)

#define SEC(name) __attribute__((section(name), used))
#define inline inline __attribute__((always_inline))
#define noinline __attribute__((noinline))

/* A function of the kernel's. */
#define ksym __attribute__((section(".ksyms")))

/* barrier keeps the compiler from making one access to the packet, at an offset that it
 * computes, out of two to fields of it: the kernel refuses that. */
#define barrier() __asm__ volatile("" ::: "memory")

/* The fields of a map's definition, which the loader reads as type information. */
#define number(name, value) int(*name)[value]
#define type(name, value) typeof(value) *name

enum {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PERCPU_ARRAY = 6,
	MAP_LPM_TRIE = 11,
	NO_PREALLOC = 1,
};

/* struct __sk_buff, as far as it is used. */
struct packet {
	u32 len; /* from the first header of the link layer on, if there is one */
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol; /* in network byte order */
	u32 vlan_present;
	u32 vlan_tci;
	u32 vlan_proto;
	u32 priority;
	u32 ingress_ifindex;
	u32 ifindex;
};

enum {
	ETH_P_IP = 0x0800,
	ETH_P_IPV6 = 0x86dd,
	VLAN_ID = 0xfff, /* of vlan_tci */
	PACKET_HOST = 0,
	AF_INET = 2,
	AF_INET6 = 10,
};

/* struct bpf_fib_lookup, as far as it is used, and what the lookup returns. */
struct fib {
	u8 family;
	u8 protocol;
	u16 ports[2];
	u16 len;
	u32 interface;
	u32 class;
	u32 from[4], to[4];
	u16 vlan[2];
	u8 link_layer[12];
};

enum {
	FIB_NOT_FORWARDED = 4,
	FIB_FORWARDING_DISABLED = 5,
};

/* struct bpf_sock_tuple: the addresses and ports of a packet, as they are in it. */
struct tuple {
	union {
		struct {
			u32 from, to;
			u16 ports[2];
		} four;
		struct {
			u32 from[4], to[4];
			u16 ports[2];
		} six;
	};
};

/* struct bpf_ct_opts of Linux 5.18 to 6.10. Later kernels take it, too. */
struct ct_options {
	int netns;
	int error;
	u8 protocol;
	u8 direction;
	u8 reserved[2];
};

enum {
	CURRENT_NETNS = -1,
	ENOENT = 2,
};

/* What a program answers. NEXT: whatever comes next decides (TCX_NEXT,
 * TC_ACT_UNSPEC). */
enum {
	NEXT = -1,
	DROP = 2,
};

enum {
	HEADER_NET = 1, /* BPF_HDR_START_NET */
};

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static u64 (*clock)(void) = (void *)5;
static long (*pull_data)(struct packet *, u32 len) = (void *)39;
static long (*load_relative)(const struct packet *, u32 offset, void *to, u32 len, u32 header) = (void *)68;
static long (*fib_lookup)(struct packet *, struct fib *, int size, u32 flags) = (void *)69;
static void *(*socket_of_udp)(struct packet *, struct tuple *, u32 size, u64 netns, u64 flags) = (void *)85;
static long (*release_socket)(void *) = (void *)86;
static u64 (*clock_boot)(void) = (void *)125;
static u64 (*clock_tai)(void) = (void *)208;

/* What connection tracking has of a packet, with a reference. Kernels before 5.18 lack it, and
 * those without BTF. So it is only called where a constant says that it is there. */
struct nf_conn {
	u64 opaque;
};
extern struct nf_conn *bpf_skb_ct_lookup(struct packet *, struct tuple *, u32 size, struct ct_options *, u32 options_size) ksym;
extern void bpf_ct_release(struct nf_conn *) ksym;
