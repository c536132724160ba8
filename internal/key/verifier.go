package key

import (
	"crypto/subtle"
	"net/netip"
	"time"
)

// A Window says how far a token's time may be from the verifier's.
type Window struct {
	Behind time.Duration
	Ahead  time.Duration
}

// DefaultWindow allows for a client's clock that is a few seconds fast, or slow and
// on a slow network.
var DefaultWindow = Window{Behind: 60 * time.Second, Ahead: 5 * time.Second}

// A Refusal is why a token is refused. Checks are made in the order of these
// constants, so that a token which fails several is refused for the first.
type Refusal int

// The refusals.
const (
	UnknownDevice Refusal = iota + 1 // or no token at all
	Malformed                        // another version, or flags that mean nothing
	Expired                          // the device's time has run out
	Stale                            // older than the window allows, or the sender's clock is slow
	Early                            // from the future, or the sender's clock is fast
	Unbound                          // not bound to an address where it must be
	NotAllowed                       // the device may not open the door
	Replayed                         // not newer than the last one accepted, or than the verifier
	Forged                           // the tag is wrong: another secret, or another address
	Refusals                         // one more than the last
)

func (r Refusal) Error() string {
	switch r {
	case UnknownDevice:
		return "unknown device"
	case Malformed:
		return "malformed"
	case Expired:
		return "device expired"
	case Stale:
		return "too old"
	case Early:
		return "from the future"
	case Unbound:
		return "not bound to an address"
	case NotAllowed:
		return "door not allowed"
	case Replayed:
		return "replayed"
	case Forged:
		return "forged"
	}
	return "refused"
}

// A Verifier accepts each token once. It defines what the kernel's program must do
// with a token, and is as simple as possible. It is not safe for concurrent use.
type Verifier struct {
	Site     Site
	Window   Window
	MustBind bool // refuse tokens that are not bound to the sender's address

	devices map[Device]*device
}

type device struct {
	mac   MACKey
	mask  SipKey
	until time.Time
	last  map[Door]*[lanes]uint64 // of the doors that it may open
}

// Add makes a device known, which may open no door yet. From the time until on it
// is refused, unless that is zero. What was known of the device is forgotten.
func (v *Verifier) Add(d Device, s Secret, until time.Time) {
	if v.devices == nil {
		v.devices = map[Device]*device{}
	}
	v.devices[d] = &device{s.MAC(v.Site), s.Mask(v.Site), until, map[Door]*[lanes]uint64{}}
}

// Allow lets a device that Add made known open a door, with tokens that are newer
// than now and the window ahead.
func (v *Verifier) Allow(d Device, door Door, now time.Time) {
	first := uint64(now.Add(v.Window.Ahead).UnixNano())
	v.devices[d].last[door] = &[lanes]uint64{first, first}
}

// Remove makes a device unknown.
func (v *Verifier) Remove(d Device) { delete(v.devices, d) }

// Verify returns who sent a token, for which door, and what it does. The error is a Refusal; then
// nothing has changed. Accepting a token uses it up, and all older ones.
func (v *Verifier) Verify(t Token, sender netip.Addr, now time.Time) (Device, Door, Action, error) {
	tag := t[:tagSize:tagSize]
	t.maskWord(v.Site.Mask(), 0)
	d := v.devices[decode([headSize]byte(t[tagSize:])).device]
	if d == nil {
		return 0, 0, 0, UnknownDevice
	}
	t.maskWord(d.mask, 1)
	t.maskWord(d.mask, 2)
	h := decode([headSize]byte(t[tagSize:]))
	if h.version != version || h.flags&^(flagBound|flagLane|flagClose) != 0 || h.zero != 0 {
		return 0, 0, 0, Malformed
	}
	if !d.until.IsZero() && !now.Before(d.until) {
		return 0, 0, 0, Expired
	}
	at := uint64(now.UnixNano())
	if h.time < at && at-h.time > uint64(v.Window.Behind) {
		return 0, 0, 0, Stale
	}
	if h.time > at && h.time-at > uint64(v.Window.Ahead) {
		return 0, 0, 0, Early
	}
	if v.MustBind && !h.bound() {
		return 0, 0, 0, Unbound
	}
	last := d.last[h.door]
	if last == nil {
		return 0, 0, 0, NotAllowed
	}
	if h.time <= last[h.lane()] {
		return 0, 0, 0, Replayed
	}
	if want := h.tag(d.mac, sender); subtle.ConstantTimeCompare(want[:], tag) != 1 {
		return 0, 0, 0, Forged
	}
	last[h.lane()] = h.time
	return h.device, h.door, h.action(), nil
}
