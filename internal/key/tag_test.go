package key

import (
	"net/netip"
	"testing"
	"time"
)

// TestTags: what is known in advance is what tokens begin with, in both lanes, and nobody
// else's.
func TestTags(t *testing.T) {
	c := Credential{Site: NewSite(), Device: NewDevice(), Door: DoorID("ssh"), Secret: NewSecret()}
	from := time.Unix(1_000_000_001, 5)
	tags := map[Tag]time.Time{}
	for at, tag := range c.Tags(from, from.Add(time.Hour)) {
		if !at.After(from) || at.After(from.Add(time.Hour)) {
			t.Errorf("a tag of %v", at)
		}
		tags[tag] = at
	}
	if want := int(lanes) * int(time.Hour/Spacing); len(tags) != want {
		t.Errorf("%d tags in an hour; want %d", len(tags), want)
	}
	for _, lane := range []Lane{Lane4, Lane6} {
		now := from.Add(20 * time.Second)
		point := lane.Point(now)
		if point.After(now) || now.Sub(point) >= Spacing || !lane.Point(point).Equal(point) || lane.Point(point.Add(-1)).Equal(point) {
			t.Errorf("lane %d: the last point before %v is %v", lane, now, point)
		}
		if token := c.Token(point, netip.Addr{}, lane); !tags[token.Tag()].Equal(point) {
			t.Errorf("lane %d: the tag of %v is not known", lane, point)
		}
		for why, token := range map[string]Token{
			"bound": c.Token(point, netip.MustParseAddr("192.0.2.1"), lane), "off the lattice": c.Token(point.Add(1), netip.Addr{}, lane),
			"in the other lane": c.Token(point, netip.Addr{}, 1-lane),
		} {
			if _, known := tags[token.Tag()]; known {
				t.Errorf("lane %d: the tag of a token that is %s is known", lane, why)
			}
		}
	}
}

// TestTagVerifier accepts each tag once, in its time.
func TestTagVerifier(t *testing.T) {
	now := Lane4.Point(time.Now())
	v := TagVerifier{Window: DefaultWindow}
	mine := Credential{Site: NewSite(), Device: 1, Door: DoorID("ssh"), Secret: NewSecret()}
	gone := Credential{Site: mine.Site, Device: 2, Door: DoorID("ssh"), Secret: NewSecret()}
	v.Load(mine, time.Time{}, now.Add(-time.Hour), now.Add(time.Hour))
	v.Load(gone, now, now.Add(-time.Hour), now.Add(time.Hour))
	try := func(c Credential, at, when time.Time, want error) {
		t.Helper()
		d, door, err := v.Verify(c.Token(at, netip.Addr{}, Lane4), when)
		if err != want || err == nil && (d != c.Device || door != c.Door) {
			t.Errorf("%v, %v, %v; want %v", d, door, err, want)
		}
	}
	try(mine, now, now.Add(-DefaultWindow.Ahead-1), Early)
	try(mine, now, now.Add(DefaultWindow.Behind+1), Stale)
	try(mine, now, now.Add(-DefaultWindow.Ahead), nil)
	try(mine, now, now, Replayed)
	try(mine, now.Add(-Spacing), now.Add(DefaultWindow.Behind-Spacing), nil)
	try(mine, now.Add(1), now, Forged)
	try(gone, now, now, Expired)
	try(gone, now, now.Add(-1), nil)
}
