package iptables

import (
	"testing"
	"time"
)

func TestRemembered(t *testing.T) {
	now := clock{jiffies: 5_000_000_000, tick: 4 * time.Millisecond}
	for _, test := range []struct {
		line, source string
		age          time.Duration
	}{
		{"src=192.0.2.7 ttl: 64 last_seen: 4999999000 oldest_pkt: 3 4999998000, 4999998500, 4999999000\n", "192.0.2.7", 4 * time.Second},
		{"src=192.0.2.7 ttl: 64 last_seen: 5000000001 oldest_pkt: 1 5000000001\n", "192.0.2.7", 0},
		{"src=2001:0db8:0000:0000:0000:0000:0000:0007 ttl: 255 last_seen: 4999999999 oldest_pkt: 1 4999999999\n", "2001:db8::7", 4 * time.Millisecond},
	} {
		r, err := parseListEntry(test.line, now)
		if err != nil || r.source.String() != test.source || r.age != test.age {
			t.Errorf("%q: got %v (%v)", test.line, r, err)
		}
	}
	for _, line := range []string{"", "src=192.0.2.7 ttl: 64", "src=x ttl: 64 last_seen: 1 oldest_pkt: 1 1", "src=192.0.2.7 ttl: 64 last_seen: -1 oldest_pkt: 1"} {
		if r, err := parseListEntry(line, now); err == nil {
			t.Errorf("%q is read as %v", line, r)
		}
	}
}

func FuzzParseListEntry(f *testing.F) {
	f.Add("src=192.0.2.7 ttl: 64 last_seen: 4999999000 oldest_pkt: 1 4999998000\n")
	f.Fuzz(func(t *testing.T, line string) {
		if r, err := parseListEntry(line, clock{jiffies: 1 << 40, tick: 4 * time.Millisecond}); err == nil && (!r.source.IsValid() || r.age < 0) {
			t.Errorf("%q is read as %v", line, r)
		}
	})
}
