package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/conformance"
	"postern/internal/firewall/nftables"
	"postern/internal/key"
	"postern/internal/lab/labtest"
)

func TestTokens(t *testing.T) {
	eachVariant(t, func(t *testing.T, b Backend) { conformance.Tokens(t, b) })
}

var killed = Backend{Variant: "nft"}

// TestApplyKeysUntilKilled is the other half of TestKillKeys; on its own it does nothing.
func TestApplyKeysUntilKilled(t *testing.T) { conformance.ApplyKeysUntilKilled(t, killed) }

func TestKillKeys(t *testing.T) { conformance.KillKeys(t, killed, "TestApplyKeysUntilKilled") }

// TestTokensComeAndGo: what verifies tokens comes and goes with the rules, and knows whose
// grants are whose.
func TestTokensComeAndGo(t *testing.T) {
	conformance.NeedBPF(t)
	t.Parallel()
	eachVariant(t, func(t *testing.T, b Backend) {
		t.Parallel()
		s := labtest.NewScene(t, b)
		const doors = "version: 1\nposture: closed\nkeys: {port: udp/40123}\nusers: {alice: {devices: [laptop, phone]}}\n" +
			"doors: {ssh: {service: tcp/22, knock: {key: [alice], sequence: [1, 2]}, open_for: 1h}}\n"
		m := labtest.Compile(t, b, doors)
		ring := labtest.Keys(m)
		labtest.Greet(t, s.Gateway, 22, "hello")
		src := labtest.On(s.Outside, labtest.IPv4)
		laptop, phone := labtest.Credential(ring, "alice/laptop", "ssh"), labtest.Credential(ring, "alice/phone", "ssh")
		do := func(f func() error) {
			t.Helper()
			if err := s.Gateway.Do(f); err != nil {
				t.Fatal(err)
			}
		}
		runs := func(why string, want bool) {
			t.Helper()
			do(func() error {
				r, err := bpf.Find()
				if err == nil && r.Loaded() != want {
					t.Errorf("%s: a program is loaded: %v", why, r.Loaded())
				}
				r.Close()
				return err
			})
		}
		iptables := func(args ...string) {
			t.Helper()
			for _, f := range families {
				if out, err := s.Gateway.Command(t.Context(), program(b.Variant, f, ""), append([]string{"-w"}, args...)...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			}
		}
		// Behind the raw table others see no mark, whatever a token was good for.
		iptables("-t", "mangle", "-A", "PREROUTING", "-m", "mark", "!", "--mark", "0")
		marked := func() (n uint64) {
			t.Helper()
			do(func() error {
				loaded, err := b.read()
				for _, f := range families {
					n += loaded[place{f, "mangle"}].chain("PREROUTING").rules[0].packets
				}
				return err
			})
			return n
		}
		s.Apply(m)
		times := labtest.NewTimes()
		send := func(from netip.Addr, c key.Credential) {
			t.Helper()
			token := c.Token(times.Next(), netip.Addr{}, key.Lane4)
			s.Send(s.Carry(from, labtest.TokenPort, token[:]))
		}
		try := func(c key.Credential, want labtest.Answer, why string) {
			t.Helper()
			send(src, c)
			s.Expect(t, src, labtest.TCP(22), want, why)
		}
		try(laptop, labtest.SYNACK, "loaded")

		elsewhere := s.Carry(src, labtest.TokenPort, nil)
		token := laptop.Token(times.Next(), netip.Addr{}, key.Lane4)
		elsewhere.Dst, elsewhere.Payload = netip.MustParseAddr("192.0.2.99"), token[:] // no address of this host
		s.Send(elsewhere)
		s.Settled()
		if n := marked(); n > 0 {
			t.Errorf("%d packets are marked still", n)
		}

		// Nor do lines of the log have the mark: a rule before each would count it.
		const counts = "-m mark ! --mark 0x0"
		atLog := func(see func(at place, c *listedChain, i int)) {
			t.Helper()
			do(func() error {
				loaded, err := b.read()
				for _, f := range families {
					at := place{f, "raw"}
					for n := range loaded[at].chains {
						c := &loaded[at].chains[n]
						if i := slices.IndexFunc(c.rules, func(r listedRule) bool { return r.leadsTo() == "LOG" }); i >= 0 {
							see(at, c, i)
						}
					}
				}
				return err
			})
		}
		atLog(func(at place, c *listedChain, i int) {
			args := append([]string{"-t", "raw", "-I", c.name, fmt.Sprint(i + 1)}, strings.Fields(counts)...)
			if out, err := s.Gateway.Command(t.Context(), program(b.Variant, at.family, ""), append([]string{"-w"}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		})
		try(laptop, labtest.SYNACK, "with rules of others")
		logged := uint64(0)
		atLog(func(_ place, c *listedChain, i int) {
			logged += c.rules[i].packets
			if before := c.rules[i-1]; !strings.HasSuffix(before.text, counts) || before.packets > 0 {
				t.Errorf("before a line of the log: %q of %d packets", before.text, before.packets)
			}
		})
		if logged == 0 {
			t.Error("nothing was logged")
		}

		// Others flush the rules; the program that runs keeps its codes.
		iptables("-t", "raw", "-F")
		try(laptop, labtest.Silence, "flushed")
		if marked() == 0 {
			t.Error("no packet was ever marked")
		}
		if !s.Inspect().Altered {
			t.Error("flushed, and nobody notices")
		}
		do(func() error {
			keeper, err := b.Keep()
			if err != nil {
				return err
			}
			changed, err := keeper.Restore(m)
			if !changed {
				t.Error("flushed, and nothing restored")
			}
			if again, err := keeper.Restore(m); again || err != nil {
				t.Errorf("restored once more: %v (%v)", again, err)
			}
			return errors.Join(err, keeper.Close())
		})
		try(laptop, labtest.SYNACK, "restored")

		// Who has given what.
		four, six, knocked := s.NewAddress(labtest.IPv4), s.NewAddress(labtest.IPv6), s.NewAddress(labtest.IPv4)
		send(four, laptop)
		send(six, laptop)
		s.Knock(knocked, labtest.TCP(1), labtest.TCP(2))
		s.Settled()
		var given []netip.Addr
		status := s.Inspect()
		givers := firewall.GiversOf(status.Keys)
		for _, g := range status.Grants {
			if by := givers.Of(g, "ssh"); by != nil && by.Device == laptop.Device && by.Name == "alice/laptop" {
				given = append(given, g.Source)
			}
		}
		if want := []netip.Addr{four, six}; !slices.Equal(given, want) || len(status.Grants) != 3 {
			t.Errorf("the key has given grants to %v, want %v, of %+v", given, want, status.Grants)
		}

		// A device is revoked.
		do(func() error { return b.Forget(phone.Device) })
		try(phone, labtest.Silence, "revoked")
		try(laptop, labtest.SYNACK, "another device was revoked")

		// The same policy again, and another backend and back: codes and last times stay.
		before := laptop.Token(times.Next(), netip.Addr{}, key.Lane4)
		s.Send(s.Carry(src, labtest.TokenPort, before[:]))
		other := labtest.Compile(t, nftables.Backend{}, doors)
		other.Keys = m.Keys
		for _, with := range []string{"the same backend", "another backend"} {
			if with == "another backend" {
				do(func() error { return nftables.Backend{}.Apply(other) })
				if status := s.Inspect(); !status.Keyless {
					t.Error("what verifies tokens for other rules is said to do it for these")
				}
				do(b.Remove)
				runs("another backend's rules", true)
				do(func() error { return errors.Join(b.Apply(m), nftables.Backend{}.Remove()) })
			}
			s.Apply(m)
			s.Try(src, labtest.TCP(22)) // what is left of a grant
			s.Send(s.Carry(src, labtest.TokenPort, before[:]))
			s.Expect(t, src, labtest.TCP(22), labtest.Silence, "replayed after a change to "+with)
			try(laptop, labtest.SYNACK, "after a change to "+with)
			if status := s.Inspect(); status.Altered || status.Keyless {
				t.Errorf("%s: altered %v, keyless %v", with, status.Altered, status.Keyless)
			}
		}

		// An interface that comes later.
		_, late := s.Connect(s.Client, s.Gateway, "198.18.0.0/24", "2001:db8:18::/64")
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		if status := s.Inspect(); !slices.Equal(status.Bare, []string{late.Name}) {
			t.Errorf("bare: %v", status.Bare)
		}
		do(func() error { return b.VerifyEverywhere(m) })
		if status := s.Inspect(); len(status.Bare) > 0 || status.Altered {
			t.Errorf("bare: %v, altered: %v", status.Bare, status.Altered)
		}

		// The codes are gone.
		iptables("-t", "raw", "-F", prefix+keysChain)
		try(laptop, labtest.Silence, "no code is known")
		if !s.Inspect().Altered {
			t.Error("nobody notices that the codes are gone")
		}

		// The keys cannot be read: hidden all the same.
		m.Keys = func() (automaton.Keyring, error) { return automaton.Keyring{}, fmt.Errorf("gone") }
		if err := s.Gateway.Do(func() error { return b.Apply(m) }); err == nil {
			t.Error("no error where there are no keys")
		}
		try(laptop, labtest.Silence, "no keys")

		s.Up(labtest.Closed + "doors: {ssh: {service: tcp/22, knock: {sequence: [1]}}}\n")
		runs("a policy without keys", false)
		labtest.Keys(m)
		s.Apply(m)
		runs("a policy with keys", true)
		do(b.Remove)
		runs("down", false)
	})
}
