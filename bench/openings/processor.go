//go:build linux

package main

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"postern/bench/machine"
)

// processorTime is what this process has used, and those it has waited for.
func processorTime() time.Duration {
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// pause is how long to wait from one opening to the next, when so many have used so
// much, for the processors to be busy with them for no more than their share of the time.
func pause(used time.Duration, openings int) time.Duration {
	return time.Duration(float64(used) / float64(openings) / busy / float64(runtime.NumCPU()))
}

// tooBusy is a percentage: where the processors have no more time to spare, openings
// wait for them as much as for the network.
const tooBusy = 80

// mark is what a row of a table ends with.
func mark(l machine.Load) string {
	switch {
	case l.Stolen > machine.MuchStolen:
		return fmt.Sprintf("  (others had %d %% of the processors, so the times are too long)", l.Stolen)
	case l.Busy > tooBusy:
		return fmt.Sprintf("  (processors %d %% busy, so the times are too long)", l.Busy)
	}
	return ""
}
