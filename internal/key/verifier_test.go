package key

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

var (
	start  = time.Unix(1796000000, 0)
	sender = netip.MustParseAddr("192.0.2.7")
	other  = netip.MustParseAddr("192.0.2.8")
)

// A scene is a verifier that was loaded at start and knows one device, and now, a
// minute later.
type scene struct {
	*Verifier
	c   Credential
	now time.Time
}

func newScene() scene {
	c := Credential{Site: NewSite(), Device: NewDevice(), Door: DoorID("ssh"), Secret: NewSecret()}
	v := &Verifier{Site: c.Site, Window: DefaultWindow}
	v.Add(c.Device, c.Secret, time.Time{})
	v.Allow(c.Device, c.Door, start)
	return scene{v, c, start.Add(2 * time.Minute)}
}

func (s scene) want(t *testing.T, what string, token Token, from netip.Addr, want error) {
	t.Helper()
	device, door, _, err := s.Verify(token, from, s.now)
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
	if err == nil && (device != s.c.Device || door != s.c.Door) || err != nil && (device != 0 || door != 0) {
		t.Errorf("%s: device %v door %v", what, device, door)
	}
}

func TestVerify(t *testing.T) {
	s := newScene()
	second := time.Second
	for _, test := range []struct {
		what   string
		change func(*Credential)
		at     time.Duration // from now on
		bound  netip.Addr
		from   netip.Addr
		want   error
	}{
		{what: "unbound", from: sender},
		{what: "newer", at: 1, from: other},
		{what: "oldest", at: -60 * second, from: sender, want: Replayed},
		{what: "too old", at: -60*second - 1, from: sender, want: Stale},
		{what: "newest", at: 5 * second, from: sender},
		{what: "too new", at: 5*second + 1, from: sender, want: Early},
		{what: "bound", at: 5 * second, bound: sender, from: sender, want: Replayed},
		{what: "another site", change: func(c *Credential) { c.Site[3] ^= 1 }, from: sender, want: UnknownDevice},
		{what: "another device", change: func(c *Credential) { c.Device++ }, from: sender, want: UnknownDevice},
		{what: "another secret", change: func(c *Credential) { c.Secret[3] ^= 1 }, from: sender, want: Malformed},
		{what: "another door", change: func(c *Credential) { c.Door++ }, from: sender, want: NotAllowed},
	} {
		c := s.c
		if test.change != nil {
			test.change(&c)
		}
		s.want(t, test.what, c.Token(s.now.Add(test.at), test.bound, Lane4), test.from, test.want)
	}
}

func TestBound(t *testing.T) {
	for _, from := range []netip.Addr{sender, netip.MustParseAddr("2001:db8::7")} {
		s := newScene()
		token := s.c.Token(s.now, from, Lane4)
		s.want(t, "from elsewhere", token, other, Forged)
		s.want(t, "bound", token, from, nil)
		s.want(t, "again", token, from, Replayed)
		s.MustBind = true
		s.want(t, "unbound", s.c.Token(s.now.Add(1), netip.Addr{}, Lane4), from, Unbound)
		s.want(t, "bound, newer", s.c.Token(s.now.Add(1), from, Lane4), from, nil)
	}
	s := newScene()
	s.want(t, "as IPv6", s.c.Token(s.now, netip.AddrFrom16(sender.As16()), Lane4), sender, nil)
}

func TestLanes(t *testing.T) {
	s := newScene()
	six, four := s.c.Token(s.now.Add(1), netip.Addr{}, Lane6), s.c.Token(s.now, netip.Addr{}, Lane4)
	s.want(t, "IPv6", six, netip.MustParseAddr("2001:db8::7"), nil)
	s.want(t, "IPv4, older", four, sender, nil)
	s.want(t, "IPv6 over IPv4", six, sender, Replayed)
	s.want(t, "IPv4 over IPv6", four, netip.MustParseAddr("2001:db8::7"), Replayed)
}

func TestNothingFromBeforeLoading(t *testing.T) {
	s := newScene()
	s.now = start.Add(time.Second)
	s.want(t, "made when it was loaded", s.c.Token(start, netip.Addr{}, Lane4), sender, Replayed)
	s.want(t, "as new as could be then", s.c.Token(start.Add(5*time.Second), netip.Addr{}, Lane4), sender, Replayed)
	s.want(t, "newer", s.c.Token(start.Add(5*time.Second+1), netip.Addr{}, Lane4), sender, nil)
	for i, test := range []struct {
		token Token
		does  Action
	}{
		{s.c.Token(start.Add(5*time.Second+2), sender, Lane4), Open},
		{s.c.Closing(start.Add(5*time.Second+3), sender, Lane4), Close},
	} {
		if _, _, does, err := s.Verify(test.token, sender, s.now); err != nil || does != test.does {
			t.Errorf("%d: it does %v (%v), want %v", i, does, err, test.does)
		}
	}
	s.want(t, "from before the closing", s.c.Token(start.Add(5*time.Second+2), sender, Lane4), sender, Replayed)
}

func TestUntil(t *testing.T) {
	s := newScene()
	s.Add(s.c.Device, s.c.Secret, s.now.Add(1))
	s.Allow(s.c.Device, s.c.Door, start)
	s.want(t, "just before", s.c.Token(s.now, netip.Addr{}, Lane4), sender, nil)
	s.now = s.now.Add(1)
	s.want(t, "over", s.c.Token(s.now, netip.Addr{}, Lane4), sender, Expired)
}

func TestRemove(t *testing.T) {
	s := newScene()
	s.Remove(s.c.Device)
	s.want(t, "removed", s.c.Token(s.now, netip.Addr{}, Lane4), sender, UnknownDevice)
}

// TestEveryBit: no bit of a token can be changed, and refused ones change nothing.
func TestEveryBit(t *testing.T) {
	for _, bound := range []netip.Addr{{}, sender} {
		s := newScene()
		good := s.c.Token(s.now, bound, Lane6)
		kinds := map[error]int{}
		for bit := range 8 * TokenSize {
			token := good
			token[bit/8] ^= 1 << (bit % 8)
			_, _, _, err := s.Verify(token, sender, s.now)
			if err == nil {
				t.Errorf("bit %d may be changed", bit)
			}
			kinds[err]++
		}
		if kinds[Forged] == 0 || kinds[UnknownDevice] < 8*16+64 || kinds[NotAllowed] != 32 {
			t.Errorf("refused for %v", kinds)
		}
		s.want(t, "unchanged", good, sender, nil)
	}
}

// FuzzVerify: of all tokens only the one that a device has made is accepted.
func FuzzVerify(f *testing.F) {
	site, secret := Site{1}, Secret{2}
	c := Credential{Site: site, Device: 3, Door: 4, Secret: secret}
	good := c.Token(start, sender, Lane4)
	f.Add(good[:], "192.0.2.7")
	f.Add(make([]byte, TokenSize), "2001:db8::1")
	f.Fuzz(func(t *testing.T, b []byte, from string) {
		address, err := netip.ParseAddr(from)
		if err != nil || len(b) != TokenSize {
			return
		}
		v := &Verifier{Site: site, Window: DefaultWindow}
		v.Add(c.Device, c.Secret, time.Time{})
		v.Allow(c.Device, c.Door, start.Add(-time.Minute))
		_, _, _, err = v.Verify(Token(b), address, start)
		if accepted := err == nil; accepted != (Token(b) == good && address.Unmap().WithZone("") == sender) {
			t.Errorf("%x from %v: %v", b, address, err)
		}
	})
}
