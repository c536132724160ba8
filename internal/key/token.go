package key

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// TokenSize is how many bytes a token has.
const TokenSize = 40

// A Token is what a device sends, and what no one else can make.
type Token [TokenSize]byte

// A Lane is a row of rising times. Replays are refused in each on its own.
type Lane uint8

// The lanes. A client sends tokens over IPv4 in one and over IPv6 in the other.
const (
	Lane4 Lane = iota
	Lane6
	lanes
)

// An Action is what a token does to its door.
type Action uint8

const (
	Open Action = iota
	Close
)

const (
	version   = 1
	flagBound = 1
	flagLane  = 2
	flagClose = 4
	headSize  = 24
	tagSize   = 16
)

// Token returns the token of a time. No two of a credential may have the same time
// in the same lane: only one of them is accepted. If bound is valid, the token
// is accepted from that address only.
func (c Credential) Token(at time.Time, bound netip.Addr, lane Lane) Token {
	return c.token(at, bound, lane, Open)
}

// Closing returns the token of a time that closes the door. All else is as for Token.
func (c Credential) Closing(at time.Time, bound netip.Addr, lane Lane) Token {
	return c.token(at, bound, lane, Close)
}

func (c Credential) token(at time.Time, bound netip.Addr, lane Lane, does Action) Token {
	h := head{device: c.Device, time: uint64(at.UnixNano()), door: c.Door, version: version, flags: lane.flags()}
	if does == Close {
		h.flags |= flagClose
	}
	if bound.IsValid() {
		h.flags |= flagBound
	}
	return seal(c.Secret.MAC(c.Site), c.Site.Mask(), c.Secret.Mask(c.Site), h, bound)
}

// A head is what a token says.
type head struct {
	device  Device
	time    uint64 // nanoseconds since 1970
	door    Door
	version uint8
	flags   uint8
	zero    uint16
}

func (h head) encode() (b [headSize]byte) {
	binary.LittleEndian.PutUint64(b[0:], uint64(h.device))
	binary.LittleEndian.PutUint64(b[8:], h.time)
	binary.LittleEndian.PutUint32(b[16:], uint32(h.door))
	b[20], b[21] = h.version, h.flags
	binary.LittleEndian.PutUint16(b[22:], h.zero)
	return b
}

func decode(b [headSize]byte) head {
	return head{
		device:  Device(binary.LittleEndian.Uint64(b[0:])),
		time:    binary.LittleEndian.Uint64(b[8:]),
		door:    Door(binary.LittleEndian.Uint32(b[16:])),
		version: b[20],
		flags:   b[21],
		zero:    binary.LittleEndian.Uint16(b[22:]),
	}
}

// flags returns how a head says the lane.
func (l Lane) flags() uint8 {
	if l == Lane6 {
		return flagLane
	}
	return 0
}

func (h head) lane() Lane {
	if h.flags&flagLane != 0 {
		return Lane6
	}
	return Lane4
}

func (h head) action() Action {
	if h.flags&flagClose != 0 {
		return Close
	}
	return Open
}

func (h head) bound() bool { return h.flags&flagBound != 0 }

// tag returns T. The address counts only if the head says that it is bound.
func (h head) tag(k MACKey, address netip.Addr) [tagSize]byte {
	var a [16]byte
	if h.bound() {
		a = address.As16()
	}
	mac := hmac.New(sha256.New, k[:])
	b := h.encode()
	mac.Write(b[:])
	mac.Write(a[:])
	return [tagSize]byte(mac.Sum(nil))
}

func seal(k MACKey, site, mask SipKey, h head, address netip.Addr) (t Token) {
	tag := h.tag(k, address)
	copy(t[:], tag[:])
	b := h.encode()
	copy(t[tagSize:], b[:])
	t.mask(site, mask)
	return t
}

// mask masks what follows the tag, or takes the mask away again.
func (t *Token) mask(site, mask SipKey) {
	for i, k := range []SipKey{site, mask, mask} {
		t.maskWord(k, i)
	}
}

func (t *Token) maskWord(k SipKey, i int) {
	message := append(t[:tagSize:tagSize], byte(i))
	word := t[tagSize+8*i:]
	binary.LittleEndian.PutUint64(word, binary.LittleEndian.Uint64(word)^sipHash(k, message))
}
