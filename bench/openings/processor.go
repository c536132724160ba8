//go:build linux

package main

import (
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"postern/bench/machine"
)

// processorTime returns the processor time of this process and of those it has
// waited for.
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

// pause returns how long to wait between two openings so that the processors
// are busy only for their share of the time, given what earlier openings used.
func pause(used time.Duration, openings int) time.Duration {
	return time.Duration(float64(used) / float64(openings) / busy / float64(runtime.NumCPU()))
}

// tooBusy is a percentage of load above which openings wait for the processors
// as much as for the network.
const tooBusy = 80

// mark returns the end of a table row.
func mark(l machine.Load) string {
	switch {
	case l.Stolen > machine.MuchStolen:
		return fmt.Sprintf("  (others had %d %% of the processors, so the times are too long)", l.Stolen)
	case l.Busy > tooBusy:
		return fmt.Sprintf("  (processors %d %% busy, so the times are too long)", l.Busy)
	}
	return ""
}
