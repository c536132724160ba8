//go:build linux

package nftables_test

import (
	"os"
	"strings"
	"testing"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
)

// TestDigest: Digest returns the digest that the loaded rule set carries.
func TestDigest(t *testing.T) {
	compile := func(text string) *nftables.Ruleset {
		p, err := policy.Parse("policy.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		m, err := automaton.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		return nftables.Compile(m)
	}
	text, err := os.ReadFile("testdata/howto.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := compile(string(text))
	if !strings.Contains(r.Render(firewall.Plain), `comment "rule set `+r.Digest()+`, shape `) {
		t.Errorf("the rule set does not carry its digest %s", r.Digest())
	}
	if again := compile(string(text)); again.Digest() != r.Digest() {
		t.Errorf("the digest changed from %s to %s", r.Digest(), again.Digest())
	}
	if other := compile(strings.Replace(string(text), "2345", "2346", 1)); other.Digest() == r.Digest() {
		t.Error("another sequence has the same digest")
	}

	// What the rules do not say, but what verifies tokens asks, is in the digest as well.
	if text, err = os.ReadFile("testdata/keys.yaml"); err != nil {
		t.Fatal(err)
	}
	r = compile(string(text))
	for from, to := range map[string]string{"2027-06-30": "2027-07-30", "{port: udp/40123}": "{port: udp/40123, address: required}"} {
		if other := compile(strings.Replace(string(text), from, to, 1)); other.Digest() == r.Digest() {
			t.Errorf("%s: the digest is the same", to)
		}
	}
}
