//go:build linux

// Package bench has what the benches below it share: how they run, the rules that
// Postern is compared with, and ways to load rules on a host of the lab.
package bench

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"strings"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/lab"
	"postern/internal/policy"
)

// Howto is the rule set of the classic how-to.
//
//go:embed howto.rules
var Howto string

// A Loader loads rules on a host.
type Loader func(ctx context.Context, h *lab.Host) error

// Load loads rules with a program that reads them from its standard input.
func Load(program, rules string, args ...string) Loader {
	return func(ctx context.Context, h *lab.Host) error {
		cmd := h.Command(ctx, program, args...)
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", program, err, out)
		}
		return nil
	}
}

// LoadPolicy loads the rules of a backend for a policy, and the keys of its users.
func LoadPolicy(b firewall.Backend, text string, keys automaton.Keyring) Loader {
	return func(_ context.Context, h *lab.Host) error {
		m, err := Compile(b, text)
		if err != nil {
			return err
		}
		m.Keys = func() (automaton.Keyring, error) { return keys, nil }
		return h.Do(func() error { return b.Apply(m) })
	}
}

// Compile returns the machine that a backend makes of a policy, with a secret.
func Compile(b firewall.Backend, text string) (*automaton.Machine, error) {
	p, err := policy.Parse("bench.yaml", []byte(text))
	if err != nil {
		return nil, err
	}
	m, err := b.Machine(p)
	if err == nil {
		m.Secret = []byte(rand.Text())
	}
	return m, err
}
