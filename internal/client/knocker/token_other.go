//go:build !linux

package knocker

import (
	"errors"
	"fmt"
	"net/netip"
)

// sendSYNData fails: without a cookie, for which it would have to ask the server
// before, and which one behind a door does not give, only Linux sends data in a SYN.
func sendSYNData(netip.Addr, uint16, []byte) error {
	return fmt.Errorf("data in a SYN: %w", errors.ErrUnsupported)
}
