//go:build !linux || 386 || arm || mips || mipsle

package backends

import (
	"errors"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/iptables"
	"postern/internal/policy"
)

// A policy means the same everywhere, and iptables rules are text. What takes a
// Linux kernel does not compile on other systems, and nothing that imports
// github.com/google/nftables does on 32-bit processors: in it a constant is too
// large for an int.

// Load reports whether backends can load rules on this system.
const Load = false

var all = []firewall.Backend{
	compiler{"nftables", automaton.Compile, []firewall.Format{{Name: "nft"}}, true},
	compiler{"iptables", iptables.Machine, iptables.Formats(), false},
}

// A compiler is what of a backend works without its kernel.
type compiler struct {
	name    string
	machine func(*policy.Policy) (*automaton.Machine, error)
	formats []firewall.Format
	steady  bool
}

func (c compiler) Name() string                                         { return c.name }
func (c compiler) Machine(p *policy.Policy) (*automaton.Machine, error) { return c.machine(p) }
func (c compiler) Formats() []firewall.Format                           { return c.formats }
func (c compiler) Steady() bool                                         { return c.steady }

// Digest returns nothing: no rules are loaded that it could name.
func (c compiler) Digest(*automaton.Machine) string { return "" }

func (c compiler) Apply(*automaton.Machine) error     { return c.unsupported() }
func (c compiler) Remove() error                      { return c.unsupported() }
func (c compiler) Inspect() (*firewall.Status, error) { return nil, c.unsupported() }

func (c compiler) unsupported() error {
	return &firewall.UnsupportedError{
		What: "64-bit Linux kernel, which runs the rules",
		Hint: "run it on the host whose services it is to hide",
		Err:  errors.ErrUnsupported,
	}
}
