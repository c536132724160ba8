//go:build !linux || 386 || arm || mips || mipsle

package draft

import (
	"postern/internal/automaton"
	"postern/internal/preflight/otherrules"
)

type rulesOfOthers struct{}

// Look is never called where no rules can be loaded.
func Look() (*Host, error) { panic("draft: no host") }

func (h *Host) Refusals(*automaton.Machine) []otherrules.Refusal { return nil }
