// Package key makes and verifies tokens: 40 bytes in one packet that say who
// sends it and which door it is for. The package is pure; time is an argument.
//
// The program in internal/firewall/bpf verifies tokens in the kernel. Verifier
// is what it is tested against, and testdata/vectors.json has tokens for
// implementations in other languages.
//
// # Keys
//
// A server has a Site. A device has a number, which is no secret, and a Secret
// for each server. From the secret come two keys:
//
//	K_mac  = HKDF-SHA-256(secret, salt = site, "postern/v1 token mac")[:32]
//	K_mask = HKDF-SHA-256(secret, salt = site, "postern/v1 token mask")[:16]
//
// The site is a SipHash key as well. All devices of a server have it, so no key
// of a device may depend on its secrecy. None does: a salt may be public where
// the secret is 32 random bytes (RFC 5869, section 3.1).
//
// # A token
//
//	H = device u64 | time u64 | door u32 | version u8 | flags u8 | 0 u16
//	A = the sender's address, IPv4 as ::ffff:a.b.c.d, if the token is bound
//	    to it; 16 zero bytes otherwise. It is not sent.
//	T = HMAC-SHA-256(K_mac, H | A)[:16]
//
//	bytes  0..15  T
//	bytes 16..23  device              xor SipHash-2-4(site, T | 0 u8)
//	bytes 24..31  time                xor SipHash-2-4(K_mask, T | 1 u8)
//	bytes 32..39  door, version, ...  xor SipHash-2-4(K_mask, T | 2 u8)
//
// Numbers are little-endian. The time is in nanoseconds since 1970, UTC. The
// version is 1. Flag 1 says that the token is bound, flag 2 which Lane it is in, and
// flag 4 that it closes the door; other flags are zero.
//
// A token looks random: T is a pseudo-random function of all that is in it, and
// masks the rest, as in the construction of a synthetic IV (RFC 5297). Tokens have
// the same T only if they are the same token, and that is a replay. Who has the
// site, as every enrolled device has, can tell which device has sent a token, but
// neither when nor for which door.
//
// # Replay
//
// Of each device, door and lane, a verifier accepts rising times only. It starts
// at the time when it was loaded, and the window ahead of that: so it accepts
// nothing that was made before a reboot and may have been used. Opening and closing
// share these times: once a token has closed the door, none from before opens it. There are two lanes
// because a client with both families sends two tokens, which may arrive in
// either order. The lane is in the token, not the packet: NAT64 makes one family
// of the other.
package key
