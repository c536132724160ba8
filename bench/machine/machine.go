//go:build linux

// Package machine tells what else the processors had to do during a measurement.
package machine

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// A Load is what the processors did during some time, in percent of it.
type Load struct {
	Busy   int // with whatever it was; what was stolen is a part of this
	Stolen int // the machine is a virtual one, and its host gave that time to another
}

// MuchStolen is the percentage of stolen time above which a measurement says more of the
// machine's host than of what is measured.
const MuchStolen = 5

// Watch begins to look at all processors. What it gives tells their load from then
// on.
func Watch() func() Load {
	before := read()
	return func() Load {
		now := read()
		all := now.all - before.all
		if all <= 0 {
			return Load{}
		}
		return Load{Busy: 100 - 100*(now.idle-before.idle)/all, Stolen: 100 * (now.stolen - before.stolen) / all}
	}
}

// ticks is what all processors have done so far, in the kernel's units.
type ticks struct{ idle, stolen, all int }

// read reads the first line of /proc/stat (proc_stat(5)).
func read() ticks {
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
		t.all += n
		switch i {
		case 4, 5: // idle, and waiting for a disk
			t.idle += n
		case 8:
			t.stolen += n
		}
	}
	return t
}
