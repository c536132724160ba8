//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// A stopwatch measures how long the sender's thread works.
//
// Its processor time leaves out what other programs and other virtual machines
// take. Packets are worked on in softirqs, which the kernel counts as time of
// the thread that they interrupt. A kernel that keeps the time of interrupts
// apart (CONFIG_IRQ_TIME_ACCOUNTING) does not: there only the time of day is
// left, which on a busy machine says little.
type stopwatch struct{ clock int32 }

// threadTime and dayTime are the clocks of a stopwatch.
const (
	threadTime = unix.CLOCK_THREAD_CPUTIME_ID
	dayTime    = unix.CLOCK_MONOTONIC
)

// newStopwatch returns a stopwatch for this kernel, which it finds out by
// sending to a stand.
func newStopwatch(s *stand, progress io.Writer) (stopwatch, error) {
	packets := make([][]byte, 0, 200)
	for range cap(packets) {
		var err error
		if packets, err = appendPacket(packets, scan.packet(s)); err != nil {
			return stopwatch{}, err
		}
	}
	share := 0.0 // of the time of day, when least disturbed
	err := lab.OnCPU(0, func() error {
		for range 50 {
			thread, day := stopwatch{threadTime}.read(), stopwatch{dayTime}.read()
			if err := s.send(packets); err != nil {
				return err
			}
			thread, day = stopwatch{threadTime}.read()-thread, stopwatch{dayTime}.read()-day
			share = max(share, float64(thread)/float64(day))
		}
		return nil
	})
	if err != nil {
		return stopwatch{}, err
	}
	// Half of the time, or more, is spent in softirqs.
	if share < 0.75 {
		fmt.Fprintf(progress, "packets: warning: this kernel does not count packets as a thread's time (%.0f %%): measuring the time of day, which other programs disturb\n", 100*share)
		return stopwatch{dayTime}, nil
	}
	return stopwatch{threadTime}, nil
}

// read returns the time of the thread, which must not change between two reads.
func (w stopwatch) read() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(w.clock, &t); err != nil {
		panic(err) // both clocks are in every kernel
	}
	return time.Duration(t.Nano())
}

func (w stopwatch) String() string {
	if w.clock == threadTime {
		return "processor time"
	}
	return "time"
}

// workers are the kernel's own threads that tidy up, and how long each has run:
// the collection of expired elements and the resizing of tables are theirs.
// They are the whole machine's.
type workers map[string]time.Duration

func readWorkers() (workers, error) {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := workers{}
	for _, process := range processes {
		name, err := os.ReadFile(process + "/comm")
		if err != nil || !strings.HasPrefix(string(name), "kworker") && !strings.HasPrefix(string(name), "ksoftirqd") {
			continue // gone, or a program
		}
		// The first field is the time on a processor in nanoseconds
		// (Documentation/scheduler/sched-stats.rst).
		text, err := os.ReadFile(process + "/schedstat")
		if err != nil {
			continue
		}
		var ns int64
		if _, err := fmt.Sscan(string(text), &ns); err != nil {
			return nil, fmt.Errorf("%s/schedstat: %w", process, err)
		}
		all[process] = time.Duration(ns)
	}
	return all, nil
}

// since returns how long the workers have run since an earlier reading. The
// kernel starts and ends workers as it needs them: of one that has ended
// nothing is known.
func (w workers) since(before workers) time.Duration {
	var total time.Duration
	for process, time := range w {
		total += time - before[process]
	}
	return total
}
