package bpf

import (
	"testing"
	"time"

	"postern/internal/key"
)

// TestDoubt: a program that was loaded when the kernel did not know the offset of TAI
// accepts the window on either side of its becoming known.
func TestDoubt(t *testing.T) {
	if v := (Config{}).value(0); v.Offset != 0 || v.Doubt != uint64(37*time.Second) {
		t.Errorf("without an offset: %+v", v)
	}
	if v := (Config{}).value(37 * time.Second); v.Offset != uint64(37*time.Second) || v.Doubt != 0 {
		t.Errorf("with one: %+v", v)
	}
	for _, grown := range []time.Duration{0, taiOffset} {
		s := newScene(t, nil, nil)
		offset, err := TAI()
		if err != nil {
			t.Fatal(err)
		}
		// The program sees a clock that is as far ahead as it would have grown.
		c := s.c.value(0)
		c.Offset = uint64(offset - 10*time.Minute - grown)
		if err := s.program.maps[mapConfig].Put(uint32(0), c); err != nil {
			t.Fatal(err)
		}
		s.age(10 * time.Minute)
		s.ahead = 10 * time.Minute // the right time
		for _, test := range []struct {
			at   time.Duration
			want key.Refusal
		}{
			{-98 * time.Second, key.Stale},
			{-61 * time.Second, key.Stale}, // at the earlier offset it is in the window
			{-59 * time.Second, 0},
			{-30 * time.Second, 0},
			{0, 0},
			{4 * time.Second, 0},
			{50 * time.Second, key.Early},
		} {
			if grown == 0 && test.at == -61*time.Second {
				test.want = 0
			}
			token := s.credential(0, 0).Token(s.now().Add(test.at), unbound, key.Lane4)
			v, err := s.program.run(frame(t, datagram.packet(sender4, token[:])), 0)
			if err != nil {
				t.Fatal(err)
			}
			if got := key.Refusal(s.outcome()); got != test.want || (v.priority != 0) != (test.want == 0) {
				t.Errorf("TAI has become known: %v; a token of %v: %q, want %q", grown > 0, test.at, got, test.want)
			}
		}
	}
}

// TestFollowTAI: a program whose TAI a time daemon has set, by one leap more or to nothing,
// refuses what is made now, and no longer when it follows.
func TestFollowTAI(t *testing.T) {
	for _, off := range []time.Duration{taiOffset, -taiOffset} {
		s := newScene(t, nil, nil)
		s.step(-s.ahead) // the right time
		s.age(-50 * time.Second)
		is, err := TAI()
		if err != nil {
			t.Fatal(err)
		}
		// It was loaded with another TAI, ten seconds ago.
		c := s.c.value(is)
		c.Offset += uint64(off)
		if err := s.program.maps[mapConfig].Put(uint32(0), c); err != nil {
			t.Fatal(err)
		}
		token := s.credential(0, 0).Token(s.now(), unbound, key.Lane4)
		accepted := func() bool {
			v, err := s.program.run(frame(t, datagram.packet(sender4, token[:])), 0)
			if err != nil {
				t.Fatal(err)
			}
			return v.priority != 0
		}
		if accepted() {
			t.Errorf("TAI was %v ahead, and it makes no difference", off)
		}
		if err := (&Running{instances: []*instance{&s.program.instance}}).FollowTAI(); err != nil {
			t.Fatal(err)
		}
		if !accepted() || accepted() {
			t.Errorf("TAI was %v ahead: it does not follow", off)
		}
	}
}

// TestSteps: what was made before a pair came to be is refused, and what is made now
// is accepted, also if the clock was wrong then and has been set since.
func TestSteps(t *testing.T) {
	for _, step := range []time.Duration{-2 * time.Hour, -30 * time.Second, 0, 30 * time.Second, 2 * time.Hour} {
		before := time.Now()
		s := newScene(t, nil, nil)
		s.age(-time.Minute)                // newScene's: the pairs are of this moment
		made := before.Add(s.ahead + step) // by a client whose clock was right
		s.step(step)
		c := s.credential(0, 0)
		for what, test := range map[string]struct {
			at   time.Duration
			want uint32
		}{
			"made before":               {-time.Second, 0},
			"made before, and in haste": {s.c.Window.Ahead - time.Second, 0},
			"made now":                  {s.c.Window.Ahead + 20*time.Second, s.code(c.Device, c.Door)},
		} {
			token := c.Token(made.Add(test.at), unbound, key.Lane4)
			for _, passed := range []time.Duration{time.Second, s.c.Window.Ahead + 30*time.Second} {
				s.advance(passed)
				v, err := s.program.run(frame(t, datagram.packet(sender4, token[:])), 0)
				if err != nil {
					t.Fatal(err)
				}
				if v.priority != test.want && passed > time.Second || v.priority != 0 && passed == time.Second {
					t.Errorf("clock set by %v, token %s, %v later: %x, want %x", step, what, passed, v.priority, test.want)
				}
				s.advance(-passed)
			}
		}
	}
}
