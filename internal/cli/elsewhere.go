//go:build !linux || 386 || arm || mips || mipsle

package cli

import (
	"github.com/spf13/cobra"

	"postern/internal/automaton"
	"postern/internal/firewall"
)

// What takes a Linux kernel is in the *_linux.go; here is what other systems have in
// their place.

func (s *session) up(firewall.Backend, risk) error { return notHere("up") }
func (s *session) down() error                     { return notHere("down") }
func (s *session) status(int) error                { return notHere("status") }
func tellStory(*cobra.Command) error               { return notHere("demo") }

// looksAround tells whether check looks at this host unless told otherwise.
const looksAround = false

func (s *session) lookAround(*automaton.Machine, firewall.Backend) { s.Warn(leftOut()) }
