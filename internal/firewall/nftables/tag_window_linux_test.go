package nftables

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"postern/internal/key"
	"postern/internal/lab/labtest"
)

// TestTagsAsReference sends tokens of the lattice's points around now, at random and some of
// them again, and compares what the kernel lets count with key.TagVerifier. What comes too
// close to the beginning or the end of its time is not sent.
func TestTagsAsReference(t *testing.T) {
	t.Parallel()
	const (
		devices = 20
		tokens  = 1000
		guard   = 500 * time.Millisecond
	)
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, devices))
	ring := labtest.Keys(m)
	s.applyTags(m)
	window := key.DefaultWindow
	// Apply loads nothing of before now. The kernel has not seen these tags, so none is used.
	first := time.Now().Add(-window.Behind - 30*time.Second)
	last := time.Now().Add(window.Ahead + 30*time.Second)
	reference := key.TagVerifier{Window: window}
	var all []key.Credential
	if err := s.Gateway.Do(func() error {
		for _, p := range tagPairs(m, ring) {
			if p.Pair.Door == key.DoorID("web") || p.Pair.Device == ring.Devices["eve/phone"].ID {
				continue
			}
			reference.Load(p.Credential, p.until, first, last)
			all = append(all, p.Credential)
			if err := (Backend{}).addTags(p, p.Tags(first, last)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	draw := func() (token key.Token, at time.Time) {
		c, lane := all[random.IntN(len(all))], key.Lane(random.IntN(2))
		at = lane.Point(first.Add(time.Duration(random.Int64N(int64(last.Sub(first))))))
		switch random.IntN(10) {
		case 0:
			return c.Closing(at, netip.Addr{}, lane), at
		case 1:
			return c.Token(at, s.Gate.Addr4(), lane), at
		case 2:
			c.Door = key.DoorID("web")
		}
		token = c.Token(at, netip.Addr{}, lane)
		if random.IntN(10) == 0 {
			token[random.IntN(len(token.Tag()))] ^= 1 << random.IntN(8)
		}
		return token, at
	}
	why := map[error]int{}
	want := map[netip.Addr]error{}
	times := map[key.Token]time.Time{}
	var sent []key.Token
	for len(want) < tokens {
		token, at := draw()
		if len(sent) > 0 && random.IntN(4) == 0 {
			token = sent[random.IntN(len(sent))]
			at = times[token]
		}
		now := time.Now()
		if now.Sub(at.Add(window.Behind)).Abs() < guard || now.Sub(at.Add(-window.Ahead)).Abs() < guard {
			continue
		}
		_, _, err := reference.Verify(token, now)
		src := s.NewAddress(labtest.Families[random.IntN(2)])
		s.Send(envelopes[random.IntN(len(envelopes))].in(s, src, token[:]))
		sent, times[token], want[src] = append(sent, token), at, err
		why[err]++
	}
	granted := map[netip.Addr]bool{}
	for _, g := range s.Inspect().Grants {
		granted[g.Source] = true
	}
	for src, err := range want {
		if granted[src] != (err == nil) {
			t.Errorf("a token from %s: the reference says %v, and the kernel gives a grant: %v", src, err, granted[src])
		}
	}
	text := fmt.Sprint(why)
	t.Log(text)
	for _, err := range []error{nil, key.Forged, key.Stale, key.Early, key.Replayed} {
		if why[err] < tokens/50 {
			t.Errorf("too few tokens that the reference calls %v: %s", err, text)
		}
	}
}
