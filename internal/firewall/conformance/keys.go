package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// NeedBPF skips the test where no program that verifies tokens can be loaded.
func NeedBPF(t *testing.T) {
	t.Helper()
	if !lab.RealRoot() {
		t.Skip("only root of the machine may load BPF programs")
	}
	if err := bpf.Probe(); errors.As(err, new(*firewall.UnsupportedError)) {
		t.Skip(err)
	}
}

// Tokens holds a backend to what tokens do: a right one opens the door, once, in each
// envelope, and nothing else does. Whatever comes, it is answered as others are that come to
// ports with nothing behind, and is no knock.
func Tokens(t *testing.T, b firewall.Backend) {
	NeedBPF(t)
	t.Parallel()
	const doors = `
keys: {port: udp/40123}
users:
  alice: {devices: [laptop, phone]}
  bob: {devices: [laptop], networks: [192.0.2.0/24, "2001:db8::/64"]}
doors:
  ssh: {service: tcp/22, knock: {key: [alice, bob]}, open_for: 1h, forfeit: true}
  web: {service: tcp/80, knock: {key: [alice], sequence: [1, 2]}, open_for: 1h, admit: any}
  top: {service: tcp/81, knock: {sequence: [3, icmp/echo]}, open_for: 1h, admit: any}
`
	for name, begin := range map[string]string{
		"closed": labtest.Closed, "reset": labtest.Closed + "cover: reset\n", "guard": labtest.Guard,
		"allowed": labtest.Guard + "allow: [{service: icmp/echo}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := labtest.NewScene(t, b)
			m := labtest.Compile(t, b, begin+doors)
			ring := labtest.Keys(m)
			s.Apply(m)
			// Only so many errors are sent to one address.
			s.Gateway.Sysctl("net.ipv4.icmp_ratelimit", "0")
			s.Gateway.Sysctl("net.ipv6.icmp.ratelimit", "0")
			for _, port := range []uint16{22, 80, 81} {
				labtest.Greet(t, s.Gateway, port, "hello")
			}
			times := labtest.NewTimes()
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				for _, by := range labtest.Envelopes {
					tokensBy(t, s, f, ring, times, by)
				}
			})
			status := s.Inspect()
			if status.Altered || len(status.Bare) > 0 || len(status.Keys) != 5 {
				t.Errorf("altered %v, bare %v, keys %+v", status.Altered, status.Bare, status.Keys)
			}
		})
	}
}

// tokensBy sends tokens in one envelope.
func tokensBy(t *testing.T, s *labtest.Scene, f labtest.Family, ring automaton.Keyring, times *labtest.Times, by policy.Port) {
	alice, bob := labtest.Credential(ring, "alice/laptop", "ssh"), labtest.Credential(ring, "bob/laptop", "ssh")
	web := labtest.Credential(ring, "alice/phone", "web")
	shut := s.Try(s.NewAddress(f), labtest.TCP(22))
	idle := by
	if by != labtest.Echo {
		idle.Number = 50000
	}
	want := s.Ask(s.Carry(s.NewAddress(f), idle, make([]byte, key.TokenSize)))
	send := func(from netip.Addr, token key.Token, why string) {
		t.Helper()
		if got := s.Ask(s.Carry(from, by, token[:])); got != want {
			t.Errorf("%s, %s: a packet with a token got %s, another %s", by, why, got, want)
		}
	}
	expect := func(from netip.Addr, port uint16, want labtest.Answer, why string) {
		t.Helper()
		s.Expect(t, from, labtest.TCP(port), want, by.String()+", "+why)
	}
	unbound := func(c key.Credential) key.Token { return c.Token(times.Next(), netip.Addr{}, key.Lane4) }
	junk := func(from netip.Addr, to policy.Port) { s.Send(s.Carry(from, to, []byte("junk"))) }

	right := unbound(alice)
	src, other := s.NewAddress(f), s.NewAddress(f)
	send(src, right, "right")
	expect(src, 22, labtest.SYNACK, "a right token")
	expect(src, 22, shut, "it is used")
	send(src, right, "replayed")
	expect(src, 22, shut, "replayed")
	bound := alice.Token(times.Next(), other, key.Lane4)
	send(src, bound, "bound to another address")
	expect(src, 22, shut, "another's address")
	send(other, bound, "bound")
	expect(other, 22, labtest.SYNACK, "bound to its address")
	wrong := unbound(alice)
	wrong[3] ^= 1
	send(src, wrong, "wrong")
	send(src, alice.Token(time.Now().Add(-time.Hour), netip.Addr{}, key.Lane4), "expired")
	send(src, unbound(labtest.Credential(ring, "bob/laptop", "web")), "another's door")
	send(src, unbound(bob), "from elsewhere")
	expect(src, 22, shut, "no right token")
	near := labtest.On(s.Outside, f)
	send(near, unbound(bob), "from the user's network")
	expect(near, 22, labtest.SYNACK, "from the user's network")

	// It costs no grant, no progress and no budget.
	send(src, unbound(alice), "right")
	send(src, unbound(web), "another door's")
	for range 2 * automaton.Attempts.Burst {
		junk(src, labtest.TCP(labtest.TokenPort.Number))
	}
	junk(src, labtest.TokenPort) // few: there are only so many errors a second
	expect(src, 80, labtest.SYNACK, "a second door")
	expect(src, 22, labtest.SYNACK, "the first one")
	src = s.NewAddress(f)
	s.Knock(src, labtest.TCP(1))
	junk(src, labtest.TokenPort)
	s.Knock(src, labtest.TCP(2))
	expect(src, 80, labtest.SYNACK, "knocked at the same time")

	// A ping with a token is no knock.
	src = s.NewAddress(f)
	s.Knock(src, labtest.TCP(3))
	send(src, unbound(bob), "from elsewhere, among knocks")
	expect(src, 81, shut, "the last knock has not come")
}

// applyingKeys is the variable by which a test binary, run once more, applies policies with
// keys until it is killed. It holds which of two is the first.
const applyingKeys = "POSTERN_TEST_APPLYING_KEYS"

// keyedMachine returns one of two machines: the second has a user more.
func keyedMachine(t *testing.T, b firewall.Backend, second bool) (*automaton.Machine, automaton.Keyring) {
	users, opens := "alice: {devices: [laptop]}", "alice"
	if second {
		users, opens = users+", bob: {devices: [laptop]}", "alice, bob"
	}
	m := labtest.Compile(t, b, labtest.Closed+"keys: {port: udp/40123}\nusers: {"+users+"}\n"+
		"doors: {ssh: {service: tcp/22, knock: {key: ["+opens+"]}, open_for: 1h}}\n")
	ring := automaton.Keyring{Site: key.Site{1}, Devices: map[string]automaton.DeviceKey{
		"alice/laptop": {ID: 1, Secret: key.Secret{1}}, "bob/laptop": {ID: 2, Secret: key.Secret{2}},
	}}
	m.Keys = func() (automaton.Keyring, error) { return ring, nil }
	return m, ring
}

// ApplyKeysUntilKilled is the other half of KillKeys. Called by a test that KillKeys has not
// started, it does nothing.
func ApplyKeysUntilKilled(t *testing.T, b firewall.Backend) {
	first := os.Getenv(applyingKeys)
	if first == "" {
		return
	}
	for second := first == "second"; ; second = !second {
		m, _ := keyedMachine(t, b, second)
		fmt.Println("next")
		if err := b.Apply(m); err != nil {
			t.Fatal(err)
		}
	}
}

// KillKeys kills a process that adds a user and removes him, again and again: whoever is a
// user before and after always comes in, with each token once, and the other one only where
// both the rules and what verifies tokens know him. The process runs the test of the binary
// that calls ApplyKeysUntilKilled.
func KillKeys(t *testing.T, b firewall.Backend, test string) {
	NeedBPF(t)
	t.Parallel()
	const kills = 30
	s := labtest.NewScene(t, b)
	labtest.Greet(t, s.Gateway, 22, "hello")
	m, ring := keyedMachine(t, b, true)
	began := time.Now()
	s.Apply(m)
	window := time.Since(began)
	digests := map[string]bool{} // and whether it is that of the second
	for _, second := range []bool{false, true} {
		m, _ := keyedMachine(t, b, second)
		digests[b.Digest(m)] = second
	}
	alice, bob := labtest.Credential(ring, "alice/laptop", "ssh"), labtest.Credential(ring, "bob/laptop", "ssh")
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	times := labtest.NewTimes()
	src := labtest.On(s.Outside, labtest.IPv4)
	opens := func(token key.Token) bool {
		t.Helper()
		s.Send(s.Carry(src, labtest.TokenPort, token[:]))
		open := s.Try(src, labtest.TCP(22)) == labtest.SYNACK
		if s.Send(s.Carry(src, labtest.TokenPort, token[:])); s.Try(src, labtest.TCP(22)) == labtest.SYNACK {
			t.Error("a token opens twice")
		}
		return open
	}
	left := map[bool]int{}
	for i := range kills {
		helper := s.Gateway.Command(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.count=1")
		helper.Env = append(os.Environ(), applyingKeys+"="+[]string{"first", "second"}[i%2])
		labtest.KillAfter(t, helper, time.Duration(random.Int64N(int64(window))), []string{"next", "next"}[:1+random.IntN(2)]...)

		status := s.Inspect()
		second, known := digests[status.Digest]
		if !known || len(status.Bare) > 0 {
			t.Fatalf("kill %d left the rule set %q, and no program on %v", i, status.Digest, status.Bare)
		}
		left[second]++
		if !opens(alice.Token(times.Next(), netip.Addr{}, key.Lane4)) {
			t.Fatalf("kill %d: who is a user before and after is shut out", i)
		}
		// A pair that has just come to be takes no token for the first seconds.
		if !opens(bob.Token(times.Next(), netip.Addr{}, key.Lane4)) {
			continue
		}
		// A program that the killed process had begun may have ended only now; and iptables'
		// rules change one family after the other, so that status calls them modified between.
		status, verified := s.Inspect(), false
		for _, k := range status.Keys {
			verified = verified || k.Device == bob.Device
		}
		if !verified || !digests[status.Digest] && !status.Altered {
			t.Fatalf("kill %d: who is no user comes in", i)
		}
	}
	t.Logf("what %d kills left: %v", kills, left)
	if left[true] == 0 || left[false] == 0 {
		t.Error("the kills do not hit both")
	}
	s.Apply(m)
	if status := s.Inspect(); status.Altered || len(status.Keys) != 2 {
		t.Errorf("applied once more: altered %v, keys %v", status.Altered, status.Keys)
	}
	if err := s.Gateway.Do(b.Remove); err != nil {
		t.Fatal(err)
	}
	if err := s.Gateway.Do(func() error {
		r, err := bpf.Find()
		if err == nil && r.Loaded() {
			t.Error("down leaves a program")
		}
		r.Close()
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
