//go:build !linux || arm

package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/firewall/iptables"
	"postern/internal/firewall/nftables"
	"postern/internal/policy"
)

// What takes a Linux kernel is in the *_linux.go; here is what other systems have in
// their place. A policy means the same everywhere, and so does all that is made of it
// but the rules of nftables, whose package compiles on Linux only. (And on Linux not
// for 32-bit processors: a constant in github.com/google/nftables is too large for an int.)

// A backend compiles policies for a host that runs Linux.
type backend = *compiler

type compiler struct {
	name    string
	machine func(*policy.Policy) (*automaton.Machine, error)
}

func backends() []backend {
	return []backend{{nftables.Name, nftables.Machine}, {iptables.Name, iptables.Machine}}
}

func (c *compiler) Name() string { return c.name }

func (c *compiler) Machine(p *policy.Policy) (*automaton.Machine, error) { return c.machine(p) }

// inUse gives the backend that "postern up" would use.
func (s *session) inUse() backend { return s.backends[0] }

func (s *session) up(backend, risk) error { return notHere("up") }
func (s *session) down() error            { return notHere("down") }
func (s *session) status(int) error       { return notHere("status") }
func tellStory(*cobra.Command) error      { return notHere("demo") }

// nftRules is what show has no use for: see form.
var nftRules func(*policy.Policy, style) (text, ruleSet string, err error)

// looksAround tells whether check looks at this host unless told otherwise.
const looksAround = false

func (s *session) lookAround(*automaton.Machine, backend) { s.Warn(leftOut()) }
