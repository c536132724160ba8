//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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

// ticks is what the machine's processors have done, all of them and whatever for, in
// the kernel's units.
type ticks struct{ idle, all int }

func wholeMachine() ticks {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return ticks{}
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	var t ticks
	for i, field := range strings.Fields(line) {
		var n int
		if i == 0 || i > 8 { // "cpu"; and guests' time, which is in user time too
			continue
		}
		fmt.Sscan(field, &n)
		if t.all += n; i == 4 || i == 5 { // idle, and waiting for a disk
			t.idle += n
		}
	}
	return t
}

// since gives in percent how much of the time the processors were busy.
func (t ticks) since(before ticks) int {
	all := t.all - before.all
	if all <= 0 {
		return 0
	}
	return 100 - 100*(t.idle-before.idle)/all
}

// tooBusy is a percentage: where the processors have no more time to spare, openings
// wait for them as much as for the network.
const tooBusy = 80

// mark is what a row of a table ends with.
func mark(busy int) string {
	if busy > tooBusy {
		return fmt.Sprintf("  (processors %d %% busy, so the times are too long)", busy)
	}
	return ""
}
