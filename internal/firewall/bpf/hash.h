/* SHA-256 (FIPS 180-4) of one block, and SipHash-2-4 (Aumasson and Bernstein,
 * 2012) of the only length that tokens need. */

static const u32 sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define ror(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* One round. The names of the variables turn, so that nothing is moved. */
#define ROUND(a, b, c, d, e, f, g, h, k, w) \
	do { \
		u32 t = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (g ^ (e & (f ^ g))) + (k) + (w); \
		d += t; \
		h = t + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + ((a & b) | (c & (a | b))); \
	} while (0)

#define ROUNDS8(i, k, w) \
	do { \
		ROUND(a, b, c, d, e, f, g, h, k[i], w[i]); \
		ROUND(h, a, b, c, d, e, f, g, k[i + 1], w[i + 1]); \
		ROUND(g, h, a, b, c, d, e, f, k[i + 2], w[i + 2]); \
		ROUND(f, g, h, a, b, c, d, e, k[i + 3], w[i + 3]); \
		ROUND(e, f, g, h, a, b, c, d, k[i + 4], w[i + 4]); \
		ROUND(d, e, f, g, h, a, b, c, k[i + 5], w[i + 5]); \
		ROUND(c, d, e, f, g, h, a, b, k[i + 6], w[i + 6]); \
		ROUND(b, c, d, e, f, g, h, a, k[i + 7], w[i + 7]); \
	} while (0)

/* sha256_block adds a block to a state. The block is used up. It is a function of
 * its own, and a loop, to stay within the 512 bytes of stack. */
static noinline int sha256_block(u32 state[8], u32 w[16])
{
	u32 a = state[0], b = state[1], c = state[2], d = state[3];
	u32 e = state[4], f = state[5], g = state[6], h = state[7];

#pragma clang loop unroll(disable)
	for (u32 i = 0;; i += 8) {
		u32 *these = w + (i & 8), *others = w + (~i & 8);
		const u32 *k = sha256_k + i;

		ROUNDS8(0, k, these);
		if (i == 56)
			break;
#pragma clang loop unroll(full)
		for (int j = 0; j < 8; j++) {
			u32 x = j < 7 ? these[j + 1] : others[0];
			u32 y = j < 2 ? others[j + 6] : these[j - 2];
			u32 z = j < 7 ? others[j + 1] : these[0];

			these[j] += (ror(x, 7) ^ ror(x, 18) ^ x >> 3) + z + (ror(y, 17) ^ ror(y, 19) ^ y >> 10);
		}
	}
	state[0] += a;
	state[1] += b;
	state[2] += c;
	state[3] += d;
	state[4] += e;
	state[5] += f;
	state[6] += g;
	state[7] += h;
	return 0;
}

#define rol64(x, n) ((x) << (n) | (x) >> (64 - (n)))

#define SIPROUND \
	do { \
		v0 += v1, v1 = rol64(v1, 13) ^ v0, v0 = rol64(v0, 32); \
		v2 += v3, v3 = rol64(v3, 16) ^ v2; \
		v0 += v3, v3 = rol64(v3, 21) ^ v0; \
		v2 += v1, v1 = rol64(v1, 17) ^ v2, v2 = rol64(v2, 32); \
	} while (0)

#define SIPWORD(m) \
	do { \
		u64 word = (m); \
		v3 ^= word; \
		SIPROUND; \
		SIPROUND; \
		v0 ^= word; \
	} while (0)

/* siphash17 returns the hash of 17 bytes: two words and a byte. */
static noinline u64 siphash17(const u64 key[2], const u64 message[2], u8 byte)
{
	u64 v0 = key[0] ^ 0x736f6d6570736575ULL, v1 = key[1] ^ 0x646f72616e646f6dULL;
	u64 v2 = key[0] ^ 0x6c7967656e657261ULL, v3 = key[1] ^ 0x7465646279746573ULL;

	SIPWORD(message[0]);
	SIPWORD(message[1]);
	SIPWORD((u64)17 << 56 | byte);
	v2 ^= 0xff;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	SIPROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}
