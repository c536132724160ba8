//go:build !linux || 386 || arm || mips || mipsle

package cli

import (
	"postern/internal/automaton"
	"postern/internal/firewall"
)

// What takes a Linux kernel is in the *_linux.go; here is what other systems have in
// their place.

func (s *session) up(firewall.Backend, risk) error { return unsupportedHere("up") }

// looksAround tells whether check looks at this host unless told otherwise.
const looksAround = false

func (s *session) lookAround(*automaton.Machine, firewall.Backend) { s.Warn(leftOut()) }
