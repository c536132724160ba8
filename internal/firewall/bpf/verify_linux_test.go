package bpf

import (
	"net/netip"
	"testing"
	"time"

	"postern/internal/key"
)

var unbound netip.Addr

// TestVerify: the program says what the verifier of internal/key does, token by
// token, and for the same reason.
func TestVerify(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) { verify(newScene(t, nil, nil), e, from) })
}

func verify(s *scene, e envelope, from netip.Addr) {
	for person := range s.people {
		for door := range s.people[person].Doors {
			s.want("good", e, from, s.credential(person, door).Token(s.fresh(), unbound, key.Lane4), 0)
			s.want("good", e, from, s.credential(person, door).Token(s.fresh(), from, key.Lane6), 0)
		}
	}
	c := s.credential(0, 0)
	good := c.Token(s.fresh(), from, key.Lane4)
	s.want("swapped address", e, neighbour(from), good, key.Forged)
	s.want("good after all", e, from, good, 0)
	s.want("closing", e, from, c.Closing(s.fresh(), from, key.Lane4), 0)
	s.want("closing, not bound", e, from, c.Closing(s.fresh(), unbound, key.Lane4), 0)
	s.want("opening again", e, from, c.Token(s.fresh(), from, key.Lane4), 0)
	s.want("replay", e, from, good, key.Replayed)
	s.want("replay elsewhere", e, neighbour(from), good, key.Replayed)
	s.want("the other lane", e, from, c.Token(s.fresh(), from, key.Lane6), 0)
	s.want("older in its lane", e, from, c.Token(s.now().Add(-time.Second), from, key.Lane6), key.Replayed)
	older := c.Token(s.fresh(), from, key.Lane4)
	s.want("newer in the other lane", e, from, c.Token(s.fresh(), from, key.Lane6), 0)
	s.want("older than that", e, from, older, 0)
	s.want("another door's", e, from, s.credential(0, 1).Token(s.fresh(), from, key.Lane4), 0)
	s.want("a door that it may not", e, from, s.credential(2, 1).Token(s.fresh(), from, key.Lane4), key.NotAllowed)

	wrong := c
	wrong.Door = key.DoorID("cellar")
	s.want("no door", e, from, wrong.Token(s.fresh(), from, key.Lane4), key.NotAllowed)
	wrong = c
	wrong.Secret = key.NewSecret()
	s.want("another secret", e, from, wrong.Token(s.fresh(), from, key.Lane4), key.Malformed)
	wrong = c
	wrong.Secret = s.people[1].Secret
	s.want("somebody else's secret", e, from, wrong.Token(s.fresh(), from, key.Lane4), key.Malformed)
	wrong = c
	wrong.Device = key.NewDevice()
	s.want("no device", e, from, wrong.Token(s.fresh(), from, key.Lane4), key.UnknownDevice)
	wrong = c
	wrong.Site = key.NewSite()
	s.want("another server", e, from, wrong.Token(s.fresh(), from, key.Lane4), key.UnknownDevice)

	minute := time.Minute
	s.want("stale", e, from, c.Token(s.now().Add(-minute-time.Second), from, key.Lane4), key.Stale)
	s.want("old", e, from, c.Token(s.now().Add(-minute+10*time.Second), from, key.Lane4), key.Replayed)
	s.want("early", e, from, c.Token(s.now().Add(minute), from, key.Lane4), key.Early)
	s.want("from long ago", e, from, c.Token(time.Unix(0, 0), from, key.Lane4), key.Stale)
	s.want("from the end of time", e, from, c.Token(time.Unix(0, -1), from, key.Lane4), key.Early)
	s.want("the rightful next", e, from, c.Token(s.fresh(), from, key.Lane4), 0)

	s.advance(2 * time.Hour)
	s.want("expired", e, from, s.credential(1, 0).Token(s.fresh(), from, key.Lane4), key.Expired)
	s.want("another's are not", e, from, c.Token(s.fresh(), from, key.Lane4), 0)
}

// TestFamilies: a token that was used is a replay over the other family, too.
func TestFamilies(t *testing.T) {
	s := newScene(t, nil, nil)
	token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
	s.want("over IPv6", datagram, sender6, token, 0)
	s.want("over IPv4", datagram, sender4, token, key.Replayed)
	s.want("as a ping", ping, sender6, token, key.Replayed)
	token = s.credential(0, 0).Token(s.fresh(), netip.AddrFrom16(sender4.As16()), key.Lane6)
	s.want("bound as IPv6", synData, sender4, token, 0)
}

func TestMustBind(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) {
		s := newScene(t, nil, func(c *Config) { c.MustBind = true })
		c := s.credential(0, 0)
		s.want("unbound", e, from, c.Token(s.fresh(), unbound, key.Lane4), key.Unbound)
		s.want("bound", e, from, c.Token(s.fresh(), from, key.Lane4), 0)
	})
}

// TestMark: the code is in the mark, unless others have marked the packet. That is no use
// of its token, and nothing else changes.
func TestMark(t *testing.T) { inMark(newScene(t, nil, nil)) }

func inMark(s *scene) {
	s.c.Carrier = Mark
	s.step(0)
	for _, e := range envelopes {
		token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
		code := s.code(s.people[0].ID, doors[0])
		for _, pass := range []struct {
			what       string
			token      key.Token
			mark, want uint32
			outcome    int
		}{
			{"marked by others", token, 0x1000, 0x1000, -1},
			{"right", token, 0, code, 0},
			{"once more on a bridge", token, code, code, -1},
			{"a replay", token, 0, 0, int(key.Replayed)},
			{"random", randomToken(), 0x1000, 0x1000, int(key.UnknownDevice)},
		} {
			answer, out, err := s.program.pass(frame(s.t, e.packet(sender4, pass.token[:])), skBuff{Mark: pass.mark})
			if err != nil {
				s.t.Fatal(err)
			}
			if answer != next || out.Mark != pass.want || out.Priority != 0 {
				s.t.Errorf("%v, %s: answer %d, mark %#x, priority %#x; want mark %#x", e, pass.what, answer, out.Mark, out.Priority, pass.want)
			}
			if got := s.outcome(); got != pass.outcome {
				s.t.Errorf("%v, %s: counted %d, want %d", e, pass.what, got, pass.outcome)
			}
		}
	}
}

// TestEveryBit: with any bit changed a token is refused, and nothing else changes.
func TestEveryBit(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) { everyBit(newScene(t, nil, nil), e, from) })
}

func everyBit(s *scene, e envelope, from netip.Addr) {
	for _, bound := range []netip.Addr{unbound, from} {
		good := s.credential(0, 0).Token(s.fresh(), bound, key.Lane4)
		for bit := range 8 * key.TokenSize {
			token := good
			token[bit/8] ^= 1 << (bit % 8)
			if refusal, err := s.compare(e, from, token); err != nil || refusal == 0 {
				s.t.Errorf("bit %d, %v: %v", bit, refusal, err)
			}
		}
		for bit := range 8 * 16 {
			s.want("another tag", e, from, forge(s.credential(0, 0), good, bit), key.Forged)
		}
		s.want("unchanged", e, from, good, 0)
	}
}

func TestRandomTokens(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) {
		s := newScene(t, nil, nil)
		for range 1000 {
			s.want("random", e, from, randomToken(), key.UnknownDevice)
		}
	})
}

// TestRightDevice: tokens with a number that is known and a random rest come as far
// as a token can without the secret. Their version is wrong nearly always.
func TestRightDevice(t *testing.T) {
	s := newScene(t, nil, nil)
	for range 1000 {
		c := s.credential(0, 0)
		c.Secret = key.NewSecret()
		s.want("known number", datagram, sender4, c.Token(s.fresh(), unbound, key.Lane4), key.Malformed)
	}
}

// TestWindow: the ends of the window are where they should be, as far as that can be
// seen: the verifier must agree at the time before or at the time after.
func TestWindow(t *testing.T) {
	s := newScene(t, nil, nil)
	s.advance(10 * time.Minute) // so that what is old is no replay
	c, d := s.credential(0, 0), s.people[0]
	seen := map[key.Refusal]int{}
	for _, end := range []time.Duration{-s.c.Window.Behind, s.c.Window.Ahead} {
		for n := range 200 {
			// Close to the end, on either side of it.
			at := s.now().Add(end + time.Duration(n-100)*100*time.Microsecond)
			token := c.Token(at, unbound, key.Lane4)
			wanted := func(now time.Time) key.Refusal {
				v := &key.Verifier{Site: s.c.Site, Window: s.c.Window}
				v.Add(d.ID, d.Secret, time.Time{})
				v.Allow(d.ID, doors[0], now.Add(-time.Hour))
				if _, _, _, err := v.Verify(token, sender4, now); err != nil {
					return err.(key.Refusal)
				}
				return 0
			}
			before := s.now()
			if _, err := s.program.run(frame(t, datagram.packet(sender4, token[:])), 0); err != nil {
				t.Fatal(err)
			}
			after := s.now()
			got := key.Refusal(s.outcome())
			if got == key.Replayed { // in the window, and not newer than the one before
				got = 0
			}
			if a, b := wanted(before), wanted(after); got != a && got != b {
				t.Errorf("%v from the end at %v: %q, want %q or %q", at.Sub(before)-end, end, got, a, b)
			}
			seen[got]++
		}
	}
	if seen[0] == 0 || seen[key.Stale] == 0 || seen[key.Early] == 0 {
		t.Errorf("not on both sides of both ends: %v", seen)
	}
}
