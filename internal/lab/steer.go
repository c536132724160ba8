//go:build linux

package lab

import (
	"fmt"
	"runtime"
)

// Steer spreads what the host receives over all CPUs: receive packet steering,
// which a machine with a fast network has, or several receive queues with the
// same effect. The packets of one connection stay on one CPU, in order. Those of
// different connections, as knocks are, may be judged at the same time, and the
// later one first.
//
// It holds for links that are made afterwards. Settle does not wait for what a
// CPU has handed to another.
func (h *Host) Steer() {
	h.lab.Step(fmt.Sprintf("host %q: steer", h.Name), func() error {
		mask := ""
		for left := runtime.NumCPU(); left > 0; left -= 32 {
			word := fmt.Sprintf("%x", uint32(1<<min(left, 32)-1))
			if mask != "" {
				mask = "," + mask
			}
			mask = word + mask
		}
		// Of the namespace, and open to all who owns it. The masks of single links
		// in /sys are only for root of the machine, and want a mount.
		if err := h.writeSysctl("net/core/rps_default_mask", mask); err != nil {
			return fmt.Errorf("%w (it needs Linux 6.3)", err)
		}
		return nil
	})
}
