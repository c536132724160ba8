package bpf

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"postern/internal/key"
	"postern/internal/lab/labtest"
)

// judge has a program judge a token that arrives in a datagram, and returns the code
// that it gives.
func judge(t testing.TB, i *instance, token key.Token) uint32 {
	t.Helper()
	v, err := (&Program{instance: *i}).run(frame(t, datagram.packet(sender4, token[:])), 0)
	if err != nil {
		t.Fatal(err)
	}
	return v.priority
}

func codes(pairs []Pair) map[pairKey]uint32 {
	all := map[pairKey]uint32{}
	for _, p := range pairs {
		all[pairKey{Device: p.Device, Door: p.Door}] = p.Code
	}
	return all
}

func (s *site) pairs() []Pair {
	s.t.Helper()
	pairs, err := s.find().Pairs()
	if err != nil {
		s.t.Fatal(err)
	}
	return pairs
}

func (s *site) credential(person int, door key.Door) key.Credential {
	d := s.people[person]
	return key.Credential{Site: s.c.Site, Device: d.ID, Door: door, Secret: d.Secret}
}

// TestReplace: pairs that stay keep their code and their last time; those that go and
// come again do not.
func TestReplace(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		a := s.links[0].Name
		first := s.load(nil)
		s.attach(first, a)
		before := codes(s.pairs())
		if len(before) != 4 {
			t.Fatalf("%d pairs, want 4", len(before))
		}
		used, unused := s.credential(0, doors[0]).Token(s.later(), unbound, key.Lane4), s.credential(0, doors[1]).Token(s.later(), unbound, key.Lane4)
		gone := s.credential(1, doors[1]).Token(s.later(), unbound, key.Lane4)
		if judge(t, &first.instance, used) == 0 {
			t.Fatal("a good token is refused")
		}

		all := s.people
		s.people = []Device{all[0], {ID: all[1].ID, Secret: all[1].Secret, Doors: doors[:1]}, {ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors}}
		second := s.load(s.find())
		if code := judge(t, &first.instance, gone); code == 0 {
			t.Error("loading the second changes what the first does")
		}
		s.attach(second, a)
		during := codes(s.pairs())
		if len(during) != 5 {
			t.Fatalf("%d pairs, want 5", len(during))
		}
		for pair, code := range during {
			if old, ok := before[pair]; ok && old != code {
				t.Errorf("%v had code %x and has %x", pair, old, code)
			}
			for other, old := range before {
				if other != pair && old == code {
					t.Errorf("%v has the code %x of %v", pair, code, other)
				}
			}
		}
		var shown bool
		for _, pair := range s.pairs() {
			shown = shown || !pair.Last.IsZero()
		}
		if !shown {
			t.Error("who came is forgotten")
		}
		if judge(t, &second.instance, used) != 0 {
			t.Error("what the first has accepted is no replay to the second")
		}
		if code := judge(t, &second.instance, unused); code != before[pairKey{Device: all[0].ID, Door: doors[1]}] {
			t.Errorf("a token that was made before is refused, or gets another code (%x)", code)
		}
		if judge(t, &second.instance, s.credential(1, doors[1]).Token(s.later(), unbound, key.Lane4)) != 0 {
			t.Error("a door that is not allowed any more opens")
		}
		uses, err := readMap[uint32, useValue](second.maps[mapUses])
		if err != nil || len(uses) != 5 {
			t.Errorf("%d codes are remembered, want 5 (%v)", len(uses), err)
		}

		s.people = all
		third := s.load(s.find())
		s.attach(third, a)
		if judge(t, &third.instance, gone) != 0 {
			t.Error("a token of before opens a door that was taken away and given again")
		}
		again := codes(s.pairs())
		if lost := (pairKey{Device: all[1].ID, Door: doors[1]}); again[lost] == before[lost] || again[lost] == 0 {
			t.Errorf("a pair that was gone has the code %x again", again[lost])
		}
		if judge(t, &third.instance, s.credential(1, doors[1]).Token(s.later(), unbound, key.Lane4)) == 0 {
			t.Error("a new token does not open it")
		}
	})
}

// TestReload: a program that follows no other accepts nothing that was made before.
func TestReload(t *testing.T) {
	s := newSite(t)
	c := s.credential(0, doors[0])
	s.load(nil)
	before := []key.Token{c.Token(time.Now(), unbound, key.Lane4), c.Token(s.later(), unbound, key.Lane6)}
	second := s.load(nil)
	for _, token := range before {
		if judge(t, &second.instance, token) != 0 {
			t.Error("a token of before is accepted")
		}
	}
	time.Sleep(100 * time.Microsecond) // by which later is before the window's end
	if judge(t, &second.instance, c.Token(s.later(), unbound, key.Lane4)) == 0 {
		t.Error("a new token is refused")
	}
}

// TestTwoPrograms: where a kill has left two programs, each on an interface, a token
// is accepted by one of them, once; and revoking reaches both.
func TestTwoPrograms(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		s := newSite(t)
		a, b := s.links[0].Name, s.links[1].Name
		first := s.load(nil)
		s.attach(first, a, b)
		second := s.load(s.find())
		r := s.find()
		s.do(func() error {
			for _, at := range r.places {
				if at.index == s.index(b) {
					return at.hook.attach(at.index, &second.instance, &at)
				}
			}
			return fmt.Errorf("nothing on %s", b)
		})
		s.attached("both", a, b)
		r = s.find()
		if len(r.instances) != 2 {
			t.Fatalf("%d programs, want 2", len(r.instances))
		}
		for i, order := range [][2]int{{0, 1}, {1, 0}} {
			token := s.credential(0, doors[i]).Token(s.later(), unbound, key.Lane4)
			if judge(t, r.instances[order[0]], token) == 0 || judge(t, r.instances[order[1]], token) != 0 {
				t.Errorf("a token is refused by program %d, or accepted by both", order[0])
			}
		}
		if err := r.Revoke(s.people[0].ID); err != nil {
			t.Fatal(err)
		}
		for n, i := range r.instances {
			if judge(t, i, s.credential(0, doors[0]).Token(s.later(), unbound, key.Lane4)) != 0 {
				t.Errorf("program %d accepts a revoked device", n)
			}
			if judge(t, i, s.credential(1, doors[n]).Token(s.later(), unbound, key.Lane4)) == 0 {
				t.Errorf("program %d refuses another device", n)
			}
		}
		if err := r.Revoke(s.people[0].ID); err != nil {
			t.Errorf("revoked again: %v", err)
		}
		if pairs := s.pairs(); len(pairs) != 2 {
			t.Errorf("%d pairs, want 2", len(pairs))
		}
		s.attach(s.load(s.find()), a, b)
		if n := len(s.find().instances); n != 1 {
			t.Errorf("%d programs, want 1", n)
		}
	})
}

// TestGrowth: a map of uses that is too small is replaced by a larger one, which
// accepts nothing of before. Codes stay.
func TestGrowth(t *testing.T) {
	defer func(n int) { leastUses = n }(leastUses)
	leastUses = 6
	s := newSite(t)
	s.people = s.people[:1]
	first := s.load(nil)
	s.attach(first, s.links[0].Name)
	before := codes(s.pairs())
	used := s.credential(0, doors[0]).Token(s.later(), unbound, key.Lane4)
	unused := s.credential(0, doors[1]).Token(s.later(), unbound, key.Lane4)
	judge(t, &first.instance, used)
	for len(s.people) < 10 {
		s.people = append(s.people, Device{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors})
	}
	second := s.load(s.find())
	s.attach(second, s.links[0].Name)
	after := codes(s.pairs())
	for pair, code := range before {
		if after[pair] != code {
			t.Errorf("%v had code %x and has %x", pair, code, after[pair])
		}
	}
	if judge(t, &second.instance, used) != 0 || judge(t, &second.instance, unused) != 0 {
		t.Error("a token of before is accepted")
	}
	if judge(t, &second.instance, s.credential(9, doors[0]).Token(s.later(), unbound, key.Lane4)) == 0 {
		t.Error("a new token is refused")
	}
	if first.maps[mapUses].MaxEntries() == second.maps[mapUses].MaxEntries() {
		t.Error("the map did not grow")
	}
}

// TestAnotherLayout: what a program of another version knows is not kept. It is
// replaced, and its devices can be revoked.
func TestAnotherLayout(t *testing.T) {
	s := newSite(t)
	first := s.load(nil)
	s.attach(first, s.links[0].Name)
	before := codes(s.pairs())
	c := s.c.value(0)
	c.Layout++
	if err := first.maps[mapConfig].Put(uint32(0), c); err != nil {
		t.Fatal(err)
	}
	r := s.find()
	if pairs, err := r.Pairs(); err != nil || len(pairs) != 0 || !r.Loaded() {
		t.Errorf("%v %v", pairs, err)
	}
	if err := r.Revoke(s.people[0].ID); err != nil {
		t.Error(err)
	}
	if err := first.maps[mapDevices].Lookup(s.people[0].ID, &deviceValue{}); err == nil {
		t.Error("it is not revoked")
	}
	second := s.load(r)
	s.attach(second, s.links[0].Name)
	for pair, code := range codes(s.pairs()) {
		if before[pair] == code {
			t.Errorf("%v has kept its code", pair)
		}
	}
	s.detach()
	s.nothing("detached")
}

// attaching is the variable by which this binary, run once more, replaces programs
// until it is killed.
const attaching = "POSTERN_TEST_ATTACHING"

// fixed is a site whose keys two processes know.
func fixed(people int) (Config, []Device) {
	c := Config{Site: key.Site{1}, Port: port, Window: key.DefaultWindow}
	var all []Device
	for i := range people {
		all = append(all, Device{ID: key.Device(i + 1), Secret: key.Secret{byte(i + 1)}, Doors: doors})
	}
	return c, all
}

// TestAttachUntilKilled is the other half of TestKill; on its own it does nothing.
func TestAttachUntilKilled(t *testing.T) {
	names := os.Getenv(attaching)
	if names == "" {
		return
	}
	var a, b int
	if _, err := fmt.Sscan(names, &a, &b); err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	for people := 10; ; people = 30 - people {
		r, err := Find()
		if err != nil {
			t.Fatal(err)
		}
		c, all := fixed(people)
		p, err := Load(c, all, r)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Attach(a, b); err != nil {
			t.Fatal(err)
		}
		p.Close()
		r.Close()
		fmt.Println("attached")
	}
}

// TestKill kills a process that replaces one program by another, again and again. What
// is left on each interface is always one of them, whole, with the codes that its
// pairs had; and a token is accepted once.
func TestKill(t *testing.T) {
	s := newSite(t)
	a, b := s.links[0].Name, s.links[1].Name
	var indexes string
	s.do(func() error { indexes = fmt.Sprint(s.index(a), s.index(b)); return nil })
	s.c, s.people = fixed(10)
	s.attach(s.load(nil), a, b)
	known := codes(s.pairs())
	left := map[int]int{}
	two := 0
	const kills = 20
	for kill := range kills {
		helper := s.server.Command(t.Context(), os.Args[0], "-test.run=^TestAttachUntilKilled$", "-test.count=1")
		helper.Env = append(os.Environ(), attaching+"="+indexes)
		labtest.KillAfter(t, helper, time.Duration(rand.Int64N(int64(20*time.Millisecond))), []string{"ready", "attached", "attached"}[:1+rand.IntN(3)]...)

		s.attached("after a kill", a, b)
		r := s.find()
		if len(r.places) != 2 || len(r.instances) > 2 {
			t.Fatalf("kill %d left %d programs in %d places", kill, len(r.instances), len(r.places))
		}
		if len(r.instances) == 2 {
			two++
		}
		for _, i := range r.instances {
			access, uses, err := i.allowed()
			if err != nil {
				t.Fatal(err)
			}
			if len(access) != 20 && len(access) != 40 {
				t.Fatalf("kill %d left %d pairs, which is neither", kill, len(access))
			}
			for pair, code := range access {
				if _, ok := uses[code]; !ok {
					t.Errorf("kill %d: no use of code %x", kill, code)
				}
				if pair.Device <= 10 && known[pair] != code {
					t.Errorf("kill %d: %v had code %x and has %x", kill, pair, known[pair], code)
				}
			}
		}
		left[len(s.pairs())]++
		c := key.Credential{Site: s.c.Site, Device: s.people[kill%10].ID, Door: doors[0], Secret: s.people[kill%10].Secret}
		token := c.Token(s.later(), netip.Addr{}, key.Lane4)
		accepted := 0
		for _, at := range r.places {
			if judge(t, at.instance, token) != 0 {
				accepted++
			}
		}
		if accepted != 1 {
			t.Errorf("kill %d: a token is accepted %d times", kill, accepted)
		}
	}
	t.Logf("pairs that %d kills left: %v; with two programs %d", kills, left, two)
	if left[20] < kills/10 || left[40] < kills/10 {
		t.Error("the kills do not hit the middle of replacing")
	}
	s.detach()
	s.nothing("detached")
}
