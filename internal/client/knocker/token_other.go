//go:build !linux

package knocker

import "net/netip"

func sendSYNData(netip.Addr, uint16, []byte) error { return errNoSYNData }
