//go:build 386 || arm || mips || mipsle

package iptables

import "errors"

// The library that lists nftables' chains does not compile on 32-bit processors.
// The registry of backends offers no Backend there; this lets the rest compile.

func (Backend) missing() (map[place][]string, error)   { return nil, errors.ErrUnsupported }
func chainsOf(Family) (map[string][]string, error)     { return nil, errors.ErrUnsupported }
func (Backend) removeCreated(snapshot, contents) error { return errors.ErrUnsupported }
