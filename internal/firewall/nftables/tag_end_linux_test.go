package nftables

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab/labtest"
)

// TestForgetLastTags: a device whose newest tag has just come can be revoked: until that is a
// minute old it counts.
func TestForgetLastTags(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, devicesOf(labtest.Closed, 2))
	ring := labtest.Keys(m)
	s.applyTags(m)
	point := coming(time.Now(), key.Lane4)
	labtest.Greet(t, s.Gateway, 22, "hello")
	gone := labtest.Credential(ring, "alice/d0", "ssh")
	if err := s.Gateway.Do(func() error {
		if err := (Backend{}).edit(func(all *batch) {
			all.flushSet("tagged")
			for _, p := range tagPairs(m, ring) {
				last := tagged{Pair: p.Pair, until: time.Now().Truncate(time.Second)}
				all.addElements("tagged", []entry{last.entry()})
			}
		}); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		return Backend{}.Forget(gone.Device)
	}); err != nil {
		t.Fatal(err)
	}
	for c, want := range map[key.Credential]labtest.Answer{gone: labtest.Silence, labtest.Credential(ring, "alice/d1", "ssh"): labtest.SYNACK} {
		src, token := s.NewAddress(labtest.IPv4), c.Token(point, netip.Addr{}, key.Lane4)
		s.Send(envelope("udp").in(s, src, token[:]))
		s.Expect(t, src, labtest.TCP(22), want, c.String())
	}
}

// TestTagsClose: knocks close a door that tags have opened, and end its connections. A token
// that closes has no tag: it does nothing, and takes nothing.
func TestTagsClose(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, s.Backend, labtest.Closed+fmt.Sprintf(`cover: reset
keys: {port: udp/%d}
users: {alice: {devices: [laptop, phone]}}
doors:
  ssh: {service: tcp/22, knock: {key: [alice], sequence: [4, 5], close: [3, 2, 1]}, open_for: 1h, admit: any, on_close: cut}
`, tokenPort))
	ring := labtest.Keys(m)
	s.applyTags(m)
	point := coming(time.Now(), key.Lane4)
	labtest.Greet(t, s.Gateway, 22, "hello")
	laptop, phone := labtest.Credential(ring, "alice/laptop", "ssh"), labtest.Credential(ring, "alice/phone", "ssh")
	src := labtest.On(s.Outside, labtest.IPv4)
	send := func(token key.Token) { s.Send(envelope("udp").in(s, src, token[:])) }
	opens := func(c key.Credential) key.Token { return c.Token(point, netip.Addr{}, key.Lane4) }
	closes := func(c key.Credential) key.Token { return c.Closing(point, netip.Addr{}, key.Lane4) }
	expect := func(want labtest.Answer, why string) {
		t.Helper()
		s.Expect(t, src, labtest.TCP(22), want, why)
	}
	send(closes(laptop))
	expect(labtest.RST, "a closing token")
	send(opens(laptop))
	session := s.Dial(t, s.Client, netip.AddrPortFrom(labtest.On(s.Gate, labtest.IPv4), 22), "hello")
	send(closes(laptop))
	send(closes(phone))
	expect(labtest.SYNACK, "closed by tokens")
	if err := session.Talk(); err != nil {
		t.Errorf("closed by tokens: %v", err)
	}
	s.Knock(src, labtest.TCP(3), labtest.TCP(2), labtest.TCP(1))
	expect(labtest.RST, "closed by knocks")
	if err := session.Talk(); err == nil {
		t.Error("the connection goes on after the door was closed")
	}
	send(opens(laptop))
	expect(labtest.RST, "closed, and a token that is used")
	send(opens(phone))
	expect(labtest.SYNACK, "opened again")
}

// applyingTags is the variable by which this binary, run once more, loads tags until it is
// killed.
const applyingTags = "POSTERN_TEST_APPLYING_TAGS"

// taggedMachine returns one of two machines: the second has devices more. Their keys stay.
func taggedMachine(t *testing.T, second bool) (*automaton.Machine, automaton.Keyring) {
	devices := 15
	if second {
		devices = 30
	}
	m := labtest.Compile(t, Backend{}, devicesOf(labtest.Closed, devices))
	ring := automaton.Keyring{Site: key.Site{1}, Devices: map[string]automaton.DeviceKey{}}
	for i := range m.Tokens {
		name := m.Tokens[i].Name()
		ring.Devices[name] = automaton.DeviceKey{ID: key.Device(key.DoorID(name)), Secret: key.Secret{byte(key.DoorID(name))}}
	}
	m.Keys = func() (automaton.Keyring, error) { return ring, nil }
	return m, ring
}

// TestApplyTagsUntilKilled is the other half of TestKillTags; on its own it does nothing.
func TestApplyTagsUntilKilled(t *testing.T) {
	if os.Getenv(applyingTags) == "" {
		return
	}
	runtime.LockOSThread() // capabilities are a thread's
	for second := false; ; second = !second {
		m, ring := taggedMachine(t, second)
		fmt.Println("next")
		if err := (byTags{}).Apply(m); err != nil {
			t.Fatal(err)
		}
		// As if the clock had been set: a watchdog loads all anew.
		if err := (Backend{}).edit(func(all *batch) {
			all.flushSet("tagged")
			for _, p := range tagPairs(m, ring) {
				e := (&tagged{Pair: p.Pair, until: time.Now().Add(time.Minute)}).entry()
				e.expire += time.Minute
				all.addElements("tagged", []entry{e})
			}
		}); err != nil {
			t.Fatal(err)
		}
		fmt.Println("next")
		if err := (&Keeper{}).VerifyEverywhere(m); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKillTags kills a process that loads rules and tags, again and again. The rules are whole;
// tags that are said to be loaded are, unless the clock was set; and the watchdog loads what
// is missing. No tag opens twice.
func TestKillTags(t *testing.T) {
	t.Parallel()
	const kills = 20
	s := newScene(t)
	labtest.Greet(t, s.Gateway, 22, "hello")
	m, ring := taggedMachine(t, true)
	began := time.Now()
	s.applyTags(m)
	window := time.Since(began)
	src := s.NewAddress(labtest.IPv4)
	c := labtest.Credential(ring, "alice/d0", "ssh")
	token := c.Token(coming(began.Add(window), key.Lane4), netip.Addr{}, key.Lane4)
	send := func() { s.Send(envelope("udp").in(s, src, token[:])) }
	send()
	s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "a token")

	machines := map[string]*automaton.Machine{}
	for _, second := range []bool{false, true} {
		m, _ := taggedMachine(t, second)
		machines[s.Backend.Digest(m)] = m
	}
	// missing returns how many tags are said to be loaded and are not.
	missing := func() (n int, stepped bool) {
		t.Helper()
		if err := s.Gateway.Do(func() error {
			loaded, set, err := dumpTagged()
			if err != nil {
				return err
			}
			stepped = set
			there := map[key.Tag]uint32{}
			if err := dumpWhole("tags", func(e element, _ lifetime) {
				there[key.Tag(e.key)] = binary.NativeEndian.Uint32(e.data)
			}); err != nil {
				return err
			}
			until := map[bpf.Pair]time.Time{}
			for _, l := range loaded {
				until[l.Pair] = l.until
			}
			for _, p := range tagPairs(m, ring) {
				for _, tag := range p.Tags(time.Now().Add(key.DefaultWindow.Ahead), until[p.Pair]) {
					if there[tag] != p.Code {
						n++
					}
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n, stepped
	}
	left := map[string]int{}
	for i := range kills {
		helper := s.Gateway.Command(t.Context(), os.Args[0], "-test.run=^TestApplyTagsUntilKilled$", "-test.count=1")
		helper.Env = append(os.Environ(), applyingTags+"=1")
		labtest.KillAfter(t, helper, rand.N(window), []string{"next", "next", "next", "next"}[:1+rand.IntN(4)]...)
		digest := s.Inspect().Digest
		now := machines[digest]
		if now == nil {
			t.Fatalf("kill %d left the rule set %q", i, digest)
		}
		if n, stepped := missing(); n > 0 && !stepped {
			t.Errorf("kill %d: %d tags are missing", i, n)
		}
		send()
		s.Expect(t, src, labtest.TCP(22), labtest.Silence, "replayed after a kill")
		n, stepped := 0, true
		for try := 0; stepped && try < 3; try++ { // or the machine stood still for seconds
			if err := s.Gateway.Do(func() error { return (&Keeper{}).VerifyEverywhere(now) }); err != nil {
				t.Fatal(err)
			}
			n, stepped = missing()
		}
		status := s.Inspect()
		if n > 0 || stepped || status.Altered || len(status.Keys) != len(now.Tokens) ||
			time.Until(status.Tags.Until) < longestTagged-time.Minute {
			t.Errorf("kill %d, repaired: %d tags are missing, set %v, altered %v, %d keys of %d until %v",
				i, n, stepped, status.Altered, len(status.Keys), len(now.Tokens), status.Tags.Until)
		}
		left[digest]++
	}
	t.Logf("what %d kills left: %v", kills, left)
	send()
	s.Expect(t, src, labtest.TCP(22), labtest.Silence, "replayed at the end")
}
