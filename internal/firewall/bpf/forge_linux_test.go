package bpf

import (
	"encoding/binary"
	"math/bits"

	"postern/internal/key"
)

// forge returns a token that says the same as another of a credential, with one bit of
// its tag changed, as nobody can make it who has not the device's mask.
func forge(c key.Credential, token key.Token, bit int) key.Token {
	masks := []key.SipKey{c.Site.Mask(), c.Secret.Mask(c.Site), c.Secret.Mask(c.Site)}
	mask := func() {
		for i, k := range masks {
			word := token[16+8*i:]
			binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)^sipHash(k, token[:16], byte(i)))
		}
	}
	mask()
	token[bit/8] ^= 1 << (bit % 8)
	mask()
	return token
}

// sipHash returns SipHash-2-4 of 16 bytes and one more, as siphash17 of hash.h does.
func sipHash(k key.SipKey, tag []byte, last byte) uint64 {
	v := [4]uint64{k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573}
	rounds := func(n int) {
		for range n {
			v[0] += v[1]
			v[2] += v[3]
			v[1] = bits.RotateLeft64(v[1], 13) ^ v[0]
			v[3] = bits.RotateLeft64(v[3], 16) ^ v[2]
			v[2] += v[1]
			v[0] = bits.RotateLeft64(v[0], 32) + v[3]
			v[1] = bits.RotateLeft64(v[1], 17) ^ v[2]
			v[3] = bits.RotateLeft64(v[3], 21) ^ v[0]
			v[2] = bits.RotateLeft64(v[2], 32)
		}
	}
	for _, word := range []uint64{binary.LittleEndian.Uint64(tag), binary.LittleEndian.Uint64(tag[8:]), 17<<56 | uint64(last)} {
		v[3] ^= word
		rounds(2)
		v[0] ^= word
	}
	v[2] ^= 0xff
	rounds(4)
	return v[0] ^ v[1] ^ v[2] ^ v[3]
}
