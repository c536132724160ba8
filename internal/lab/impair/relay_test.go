//go:build linux

package impair

import (
	"testing"
	"time"
)

// A packet's time begins when the kernel saw it, unless the clock was set: then
// it is as right as it can be.
func TestCame(t *testing.T) {
	now := time.Now()
	looked, wall := now.Add(-5*time.Millisecond), now.Round(0)
	for _, test := range []struct {
		stamp time.Time
		want  time.Duration // before now
	}{
		{wall, 0},
		{wall.Add(-2 * time.Millisecond), 2 * time.Millisecond},
		{wall.Add(-time.Hour), 5 * time.Millisecond},
		{wall.Add(time.Hour), 0},
	} {
		if got := now.Sub(came(test.stamp, looked, now)); got != test.want {
			t.Errorf("stamped %s: came %s ago, want %s", test.stamp, got, test.want)
		}
	}
}

// Multicast is what the relay keeps to itself, and what is no IP packet.
func TestIsUnicast(t *testing.T) {
	packet := func(n int, version, first byte) []byte {
		b := make([]byte, n)
		b[0] = version << 4
		if n >= 40 && version == 6 {
			b[24] = first
		} else if n >= 20 {
			b[16] = first
		}
		return b
	}
	for _, test := range []struct {
		raw  []byte
		want bool
	}{
		{packet(20, 4, 192), true},
		{packet(20, 4, 223), true},
		{packet(20, 4, 224), false}, // IGMP goes there
		{packet(20, 4, 255), false}, // broadcast
		{packet(19, 4, 0), false},
		{packet(40, 6, 0x20), true},
		{packet(40, 6, 0xfe), true},
		{packet(40, 6, 0xff), false}, // and there MLD
		{packet(39, 6, 0), false},
		{packet(40, 5, 0), false},
		{nil, false},
	} {
		if got := isUnicast(test.raw); got != test.want {
			t.Errorf("% x: %v", test.raw, got)
		}
	}
}
