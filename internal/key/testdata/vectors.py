"""Compute the tokens of a vectors file, from what they are made of, and compare.

Everything comes from doc.go of package key, and nothing from its code: HMAC and
SHA-256 are Python's own, HKDF is RFC 5869 and SipHash the paper's.
"""
import hashlib
import hmac
import ipaddress
import json
import struct
import sys

M64 = (1 << 64) - 1
M32 = (1 << 32) - 1


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def hkdf(secret, salt, info, length):
    return mac(mac(salt, secret), info + b"\x01")[:length]


def siphash(key, message):
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rol(x, n):
        return (x << n | x >> (64 - n)) & M64

    def sipround():
        v[0] = (v[0] + v[1]) & M64
        v[2] = (v[2] + v[3]) & M64
        v[1] = rol(v[1], 13) ^ v[0]
        v[3] = rol(v[3], 16) ^ v[2]
        v[0] = rol(v[0], 32)
        v[2] = (v[2] + v[1]) & M64
        v[0] = (v[0] + v[3]) & M64
        v[1] = rol(v[1], 17) ^ v[2]
        v[3] = rol(v[3], 21) ^ v[0]
        v[2] = rol(v[2], 32)

    padded = message + b"\0" * (7 - len(message) % 8) + bytes([len(message) & 0xFF])
    for (m,) in struct.iter_unpack("<Q", padded):
        v[3] ^= m
        sipround()
        sipround()
        v[0] ^= m
    v[2] ^= 0xFF
    for _ in range(4):
        sipround()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def primes(n):
    found = []
    candidate = 2
    while len(found) < n:
        if all(candidate % p for p in found):
            found.append(candidate)
        candidate += 1
    return found


def root(n, k):
    """The first 32 bits of the fraction of the k-th root of n."""
    low, high = 0, n << 32
    while high - low > 1:
        middle = (low + high) // 2
        if middle ** k <= n << (32 * k):
            low = middle
        else:
            high = middle
    return low & M32


def compress(block):
    """SHA-256's state after its first block (FIPS 180-4)."""
    k = [root(p, 3) for p in primes(64)]
    start = [root(p, 2) for p in primes(8)]

    def ror(x, n):
        return (x >> n | x << (32 - n)) & M32

    w = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        s0 = ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3
        s1 = ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + s0 + w[i - 7] + s1) & M32)
    a, b, c, d, e, f, g, h = start
    for i in range(64):
        t1 = h + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + (e & f ^ ~e & g) + k[i] + w[i]
        t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (t1 + t2) & M32, a, b, c, (d + t1) & M32, e, f, g
    return struct.pack(">8I", *((x + y) & M32 for x, y in zip(start, (a, b, c, d, e, f, g, h))))


def mapped(address):
    if not address:
        return b"\0" * 16
    ip = ipaddress.ip_address(address)
    return ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed


def token(v):
    site, secret = bytes.fromhex(v["site"]), bytes.fromhex(v["secret"])
    k_mac = hkdf(secret, site, b"postern/v1 token mac", 32)
    k_mask = hkdf(secret, site, b"postern/v1 token mask", 16)
    door = struct.unpack("<I", hashlib.sha256(v["door"].encode()).digest()[:4])[0]
    flags = (1 if v["bound"] else 0) | v["lane"] << 1 | (4 if v["close"] else 0)
    head = struct.pack("<QQIBBH", int(v["device"], 16), int(v["time"]), door, 1, flags, 0)
    tag = mac(k_mac, head + mapped(v["bound"]))[:16]
    words = struct.unpack("<QQQ", head)
    masks = [siphash(k, tag + bytes([i])) for i, k in enumerate((site, k_mask, k_mask))]
    sealed = struct.pack("<QQQ", *(w ^ m for w, m in zip(words, masks)))
    block = k_mac + b"\0" * 32
    return {
        "door_id": door,
        "k_mac": k_mac.hex(),
        "k_mask": k_mask.hex(),
        "inner": compress(bytes(b ^ 0x36 for b in block)).hex(),
        "outer": compress(bytes(b ^ 0x5C for b in block)).hex(),
        "token": (tag + sealed).hex(),
    }


with open(sys.argv[1]) as file:
    vectors = json.load(file)
wrong = 0
for number, vector in enumerate(vectors):
    for name, value in token(vector).items():
        if vector[name] != value:
            wrong += 1
            print(f"vector {number}: {name} is {vector[name]}, and {value} by this script")
print(f"{len(vectors)} vectors, {wrong} differences")
sys.exit(wrong > 0)
