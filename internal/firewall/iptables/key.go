package iptables

import (
	"bytes"
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A listKey hides in the names of loaded lists which state or grant they are of. The
// ids of these are hashes of knocks, without a secret: all ports can be tried in two
// seconds. Names must last as long as the lists do, so the key stays with them, in the
// label of the loaded rules, which only root can read.
type listKey [aes.BlockSize]byte

func newListKey() *listKey {
	var k listKey
	rand.Read(k[:]) // which never fails
	return &k
}

// seal returns the end of a list's name: the kind and the id, encrypted. Without a key
// it returns them as they are.
func (k *listKey) seal(kind listKind, id uint64) string {
	if k == nil {
		return fmt.Sprintf("%c%08x", kind, id)
	}
	block := k.block(kind, id)
	k.cipher().Encrypt(block, block)
	return hex.EncodeToString(block)
}

// open is the reverse of seal with a key. It fails for whatever else ends a name.
func (k *listKey) open(sealed string) (kind listKind, id uint64, ok bool) {
	block, err := hex.DecodeString(sealed)
	if k == nil || err != nil || len(block) != aes.BlockSize {
		return 0, 0, false
	}
	k.cipher().Decrypt(block, block)
	kind, id = listKind(block[0]), uint64(binary.BigEndian.Uint32(block[1:]))|uint64(binary.BigEndian.Uint32(block[5:]))<<32
	return kind, id, bytes.Equal(block, k.block(kind, id))
}

// block is one block of the cipher, with zeros at its end.
func (*listKey) block(kind listKind, id uint64) []byte {
	block := make([]byte, aes.BlockSize)
	block[0] = byte(kind)
	binary.BigEndian.PutUint32(block[1:], uint32(id))
	binary.BigEndian.PutUint32(block[5:], uint32(id>>32)) // of states and grants it is 0
	return block
}

func (k *listKey) cipher() interface {
	Encrypt(dst, src []byte)
	Decrypt(dst, src []byte)
} {
	c, err := aes.NewCipher(k[:])
	if err != nil {
		panic(err) // of a key of another size
	}
	return c
}

func (k *listKey) String() string { return hex.EncodeToString(k[:]) }

// parseListKey is String's reverse; nil is what is no key.
func parseListKey(text string) *listKey {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(listKey{}) {
		return nil
	}
	k := listKey(b)
	return &k
}
