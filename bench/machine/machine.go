//go:build linux

// Package machine measures the load of the processors during a measurement.
package machine

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// A Load is what the processors did during a time, in percent.
type Load struct {
	Busy   int // with anything, including stolen time
	Stolen int // given to other virtual machines by the host
}

// MuchStolen is the percentage of stolen time above which a measurement says
// more about the host of the virtual machine than about its subject.
const MuchStolen = 5

// Watch starts to measure all processors. The returned function returns their
// load since then.
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

// ticks is the time of all processors so far, in the kernel's units.
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
		if i == 0 || i > 8 { // "cpu", and guest time, which is part of user time
			continue
		}
		fmt.Sscan(field, &n)
		t.all += n
		switch i {
		case 4, 5: // idle and iowait
			t.idle += n
		case 8:
			t.stolen += n
		}
	}
	return t
}
