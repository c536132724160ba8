package nftables

import (
	"encoding/binary"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// TestDecoys: with a secret the kernel finds what a decoy leads to, also from that state, after
// each way in which rules are loaded. Nothing calls the rules altered then, and they have the
// digest of those without.
func TestDecoys(t *testing.T) {
	t.Parallel()
	for name, doors := range map[string]string{
		"one timeout": "", "a ping": "  vpn: {service: udp/1194, knock: {sequence: [1001, icmp/echo, 1002]}}\n",
		"two timeouts": "  vpn: {service: udp/1194, knock: {sequence: [udp/1001, 1002], step_timeout: 7s}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			m := labtest.Compile(t, s.Backend, labtest.Closed+"doors:\n  ssh: {service: 22, knock: {sequence: [1234, 2345, 3456]}}\n"+doors)
			m.Secret = []byte("a secret")
			expect := func(after string) {
				t.Helper()
				if status := s.Inspect(); status.Altered || status.Digest != s.Backend.Digest(m) {
					t.Errorf("after %s: altered %v, digest %s", after, status.Altered, status.Digest)
				}
				leads := map[string]uint32{}
				for _, table := range []string{"step", "step_echo"} {
					if Compile(m).set(table) == nil {
						continue
					}
					if err := s.Gateway.Do(func() error {
						return dumpWhole(table, func(e element, _ lifetime) { leads[string(e.key)] = binary.NativeEndian.Uint32(e.data) })
					}); err != nil {
						t.Fatal(err)
					}
				}
				check := func(from automaton.StateID, on policy.Port, to automaton.StateID) {
					key := []part{idPart(uint32(from))}
					if on.Protocol != policy.ICMP {
						key = append(key, portParts(on)...)
					}
					if got := leads[string(elementOf(key...).key)]; got != uint32(to)|moved {
						t.Fatalf("after %s: from %x, %v leads to %x, want %x", after, from, on, got, to)
					}
				}
				for _, d := range m.Decoys() {
					check(d.From, d.Path[len(d.Path)-1], d.ID)
					for _, on := range d.Loops {
						check(d.ID, on, d.ID)
					}
				}
			}
			s.Apply(m)
			expect("up")
			s.Apply(m)
			expect("another up")
			k := keeper(t, s.Gateway)
			restore := func() {
				t.Helper()
				if err := s.Gateway.Do(func() error { _, err := k.Restore(m); return err }); err != nil {
					t.Fatal(err)
				}
			}
			for _, what := range []string{"ruleset", "map inet postern step"} {
				if out, err := s.Gateway.Command(t.Context(), "nft", "flush "+what).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				if status := s.Inspect(); status.Loaded && !status.Altered {
					t.Errorf("without %s the rules are called whole", what)
				}
				restore()
				expect("the loss of " + what)
			}

			// A source that comes by is where the decoy leads, for as long as after a knock.
			all := m.Decoys()
			for _, d := range []automaton.Decoy{all[0], all[1], all[2], all[len(all)-1]} {
				from := s.NewAddress(labtest.IPv6)
				for _, on := range d.Path {
					s.Knock(from, on)
				}
				s.Settled()
				state, stays := uint32(0), time.Duration(0)
				if err := s.Gateway.Do(func() error {
					_, err := dump("at6", func(e element, l lifetime) bool {
						if string(e.key) == string(from.AsSlice()) {
							state, stays = binary.NativeEndian.Uint32(e.data), l.whole
						}
						return true
					})
					return err
				}); err != nil {
					t.Fatal(err)
				}
				if state != uint32(d.ID) || stays != d.Timeout {
					t.Errorf("after %v: state %x for %v, want %x for %v", d.Path[0], state, stays, d.ID, d.Timeout)
				}
			}
		})
	}
}
