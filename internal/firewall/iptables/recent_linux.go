package iptables

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A listEntry is an entry of one of the kernel's lists.
type listEntry struct {
	source netip.Addr
	age    time.Duration // since it was last put there
}

// recentDir is where xt_recent shows the lists of the calling thread's namespace.
const recentDir = "/proc/thread-self/net/xt_recent"

// readList reads a list. One that no rule uses any more is empty.
func readList(name string, now clock) ([]listEntry, error) {
	text, err := os.ReadFile(filepath.Join(recentDir, filepath.Base(name)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []listEntry
	for line := range strings.Lines(string(text)) {
		r, err := parseListEntry(line, now)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", name, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// anyList reports whether the kernel has any list of ours, which it has as long as a
// rule names it.
func anyList() bool {
	all, err := filepath.Glob(filepath.Join(recentDir, prefix+"*"))
	return err == nil && len(all) > 0
}

// parseListEntry reads
//
//	src=192.0.2.7 ttl: 64 last_seen: 4295133072 oldest_pkt: 1 4295133072
func parseListEntry(line string, now clock) (r listEntry, err error) {
	fields := strings.Fields(line)
	if len(fields) < 5 || fields[3] != "last_seen:" {
		return r, fmt.Errorf("xt_recent writes %q, which Postern cannot read", line)
	}
	if r.source, err = netip.ParseAddr(strings.TrimPrefix(fields[0], "src=")); err != nil {
		return r, err
	}
	seen, err := strconv.ParseUint(fields[4], 10, 64)
	if err != nil {
		return r, err
	}
	r.age = now.since(seen)
	return r, nil
}

// A clock is the kernel's count of ticks at one moment, by which xt_recent measures
// time.
type clock struct {
	jiffies uint64
	tick    time.Duration
	at      time.Time
}

// readClock asks for it. No call returns the ticks themselves. times(2) returns the
// hundredths of a second that they come to, so that the clock may be wrong by 5 ms.
func readClock() (clock, error) {
	var resolution unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &resolution); err != nil {
		return clock{}, err
	}
	var unused unix.Tms
	hundredths, err := unix.Times(&unused)
	if err != nil {
		return clock{}, err
	}
	c := clock{tick: time.Duration(resolution.Nano()), at: time.Now()}
	if c.tick <= 0 {
		return c, fmt.Errorf("the kernel's clock ticks every %s", c.tick)
	}
	// They are the ticks times TICK_NSEC by 10,000,000, in whole numbers: take the
	// middle of those that come to as many.
	const hundredth = uint64(time.Second / 100)
	c.jiffies = (uint64(hundredths)*hundredth + hundredth/2) / uint64(c.tick)
	return c, nil
}

// since returns how long ago a stamp was made; one from the future, by the error of the
// clock, has just been. Where the kernel's counters have 32 bits, stamps wrap.
func (c clock) since(stamp uint64) time.Duration {
	ticks := int64(c.jiffies - stamp)
	if strconv.IntSize == 32 {
		ticks = int64(int32(uint32(c.jiffies) - uint32(stamp)))
	}
	return min(time.Duration(max(0, ticks)), math.MaxInt64/c.tick) * c.tick
}
