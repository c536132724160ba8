package key

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
)

// A MACKey is what the tag of a device's tokens is made with.
type MACKey [32]byte

// MAC derives the key of the tags.
func (s Secret) MAC(site Site) MACKey { return MACKey(derive(s, site, "postern/v1 token mac", 32)) }

// Mask derives the key that masks times and doors.
func (s Secret) Mask(site Site) SipKey {
	return sipKey([16]byte(derive(s, site, "postern/v1 token mask", 16)))
}

// Mask returns the key that masks the numbers of devices: the site itself.
func (s Site) Mask() SipKey { return sipKey(s) }

func derive(secret Secret, site Site, info string, length int) []byte {
	b, err := hkdf.Key(sha256.New, secret[:], site[:], info, length)
	if err != nil {
		panic(err) // only for a length that is too long
	}
	return b
}

// Midstates returns the states of SHA-256 in which HMAC begins and ends: after the
// block of the inner key, and after that of the outer.
func (k MACKey) Midstates() (inner, outer [8]uint32) {
	return midstate(k, 0x36), midstate(k, 0x5c)
}

func midstate(k MACKey, pad byte) (state [8]uint32) {
	block := make([]byte, sha256.BlockSize)
	copy(block, k[:])
	for i := range block {
		block[i] ^= pad
	}
	h := sha256.New()
	h.Write(block)
	// The marshaled state is 4 bytes that name it, then the eight words.
	b := marshal(h)[4:]
	for i := range state {
		state[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	return state
}

func marshal(h hash.Hash) []byte {
	b, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err) // a SHA-256 of the standard library can be marshaled
	}
	return b
}
