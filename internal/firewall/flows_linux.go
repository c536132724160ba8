package firewall

import (
	"errors"

	"postern/internal/host"
)

// Connections returns the TCP connections of this host, which stay open when a backend
// loads rules. It is an *UnsupportedError that the kernel cannot list them.
func Connections() (host.Flows, error) {
	flows, err := host.Connections()
	if errors.Is(err, host.ErrNoSocketList) {
		err = &UnsupportedError{
			What: "kernel module tcp_diag, which lists the connections that are to stay open",
			Hint: "load it with `modprobe tcp_diag`; if the kernel does not come with it, install the package with its further modules",
			Err:  err,
		}
	}
	return flows, err
}
