//go:build linux

package labtest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Without calls f without some capabilities (unix.CAP_...), or without any if none are
// named, on the thread that it is called on.
func Without(f func() error, capabilities ...int) (err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var before [2]unix.CapUserData
	if err := unix.Capget(&header, &before[0]); err != nil {
		return err
	}
	without := before
	for _, c := range capabilities {
		without[c/32].Effective &^= 1 << (c % 32)
	}
	if len(capabilities) == 0 {
		without[0].Effective, without[1].Effective = 0, 0
	}
	if err := unix.Capset(&header, &without[0]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Capset(&header, &before[0])) }()
	return f()
}

// WithoutBPF calls f as in a container, where no BPF program can be loaded.
func WithoutBPF(f func() error) error { return Without(f, unix.CAP_SYS_ADMIN, unix.CAP_BPF) }
