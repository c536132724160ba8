package key

import (
	"iter"
	"net/netip"
	"time"
)

// A Tag is what a token begins with: T in the package's comment. It follows from the time,
// so who has the secret can say today what tomorrow's tokens begin with.
type Tag [tagSize]byte

// Tag returns what the token begins with.
func (t Token) Tag() Tag { return Tag(t[:tagSize]) }

// Spacing is the time from one point of a lane's lattice to the next.
//
// The lattice is for servers that cannot compute a tag as a token arrives, and know
// those of its points in advance. They accept tokens of these times, that are bound to no
// address. The points of the two lanes alternate.
const Spacing = 8 * time.Second

// Point returns the last point of the lane's lattice that is not after a time.
func (l Lane) Point(at time.Time) time.Time {
	offset := int64(l) * int64(Spacing) / int64(lanes)
	return time.Unix(0, (at.UnixNano()-offset)/int64(Spacing)*int64(Spacing)+offset)
}

// Tags returns the tags of all points of both lattices that are after one time, and not
// after another.
func (c Credential) Tags(after, last time.Time) iter.Seq2[time.Time, Tag] {
	return func(yield func(time.Time, Tag) bool) {
		k := c.Secret.MAC(c.Site)
		for lane := range lanes {
			h := head{device: c.Device, door: c.Door, version: version, flags: lane.flags()}
			for at := lane.Point(after).Add(Spacing); !at.After(last); at = at.Add(Spacing) {
				h.time = uint64(at.UnixNano())
				if !yield(at, h.tag(k, netip.Addr{})) {
					return
				}
			}
		}
	}
}

// A TagVerifier accepts each of the tags that it knows once. It defines what rules must do
// that look at nothing but the first bytes of a packet, and is as simple as possible. It is
// not safe for concurrent use.
type TagVerifier struct {
	Window Window

	known map[Tag]tagged
	used  map[Tag]bool
}

// tagged is whose a tag is, and when.
type tagged struct {
	device Device
	door   Door
	time   time.Time
	until  time.Time
}

// Load makes tags known, of times after one and not after another: with what is known
// already, it is not to know one before it can count. From the time until on they are
// refused, unless that is zero.
func (v *TagVerifier) Load(c Credential, until, after, last time.Time) {
	if v.known == nil {
		v.known, v.used = map[Tag]tagged{}, map[Tag]bool{}
	}
	for at, tag := range c.Tags(after, last) {
		v.known[tag] = tagged{c.Device, c.Door, at, until}
	}
}

// Verify returns who sent a token, and for which door. The error is a Refusal; then nothing
// has changed.
func (v *TagVerifier) Verify(t Token, now time.Time) (Device, Door, error) {
	k, known := v.known[t.Tag()]
	switch {
	case !known:
		return 0, 0, Forged
	case !k.until.IsZero() && !now.Before(k.until):
		return 0, 0, Expired
	case now.Sub(k.time) > v.Window.Behind:
		return 0, 0, Stale
	case k.time.Sub(now) > v.Window.Ahead:
		return 0, 0, Early
	case v.used[t.Tag()]:
		return 0, 0, Replayed
	}
	v.used[t.Tag()] = true
	return k.device, k.door, nil
}
