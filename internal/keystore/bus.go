//go:build linux || netbsd || openbsd

package keystore

import (
	"os"
	"path/filepath"

	"github.com/godbus/dbus/v5"
)

// address is the environment variable that has the address of the session's bus.
const address = "DBUS_SESSION_BUS_ADDRESS"

// reachable returns an error if this session has no bus on which a store could be. The
// library would start one then, with no store on it, so it is told where the bus is.
func reachable() error {
	if os.Getenv(address) != "" {
		return nil
	}
	if folder := os.Getenv("XDG_RUNTIME_DIR"); folder != "" {
		socket := filepath.Join(folder, "bus")
		if _, err := os.Stat(socket); err == nil {
			return os.Setenv(address, "unix:path="+dbus.EscapeBusAddressValue(socket))
		}
	}
	return errNoBus
}
