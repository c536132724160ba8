//go:build !(386 || arm || mips || mipsle)

package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"postern/internal/policy"
	"postern/internal/preflight"
)

// conntrack looks at how full the kernel's table of connections is. One that is full
// lets nobody in, whether they have knocked or not.
func conntrack() Entry {
	e := Entry{Topic: preflight.Topic{Name: "connection tracking"}}
	count, most := number("net/netfilter/nf_conntrack_count"), number("net/netfilter/nf_conntrack_max")
	if count < 0 || most <= 0 {
		e.Seen = "not in use yet"
		return e
	}
	e.Seen = fmt.Sprintf("%d of %d connections", count, most)
	e.Findings = crowded(count, most)
	return e
}

// crowded returns what is wrong with a table that has so many of at most so many
// entries.
func crowded(count, most int) []preflight.Finding {
	severity := preflight.Warning
	switch {
	case count >= most-most/50:
		severity = preflight.Error
	case count < most-most/5:
		return nil
	}
	return []preflight.Finding{{
		Kind:     ConntrackFull,
		Severity: severity,
		Message:  fmt.Sprintf("connection tracking holds %d of at most %d connections: once it is full the kernel drops every new one, also after a knock", count, most),
		Hints: []string{
			fmt.Sprintf("raise it with \"sysctl net.netfilter.nf_conntrack_max=%d\", and in /etc/sysctl.d to keep it after a reboot", 4*most),
			"find out what opens so many: \"conntrack -L\"",
		},
	}}
}

// number returns a setting below /proc/sys; -1 if it cannot be read.
func number(name string) int {
	text, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return -1
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return n
}

// clock looks at whether the machine's clock is kept. No knock or grant asks it; keys
// do, and log lines, and so does what is compared with them.
func clock(p *policy.Policy) Entry {
	e := Entry{Topic: preflight.Topic{Name: "clock"}, Seen: "synchronized"}
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil || state != unix.TIME_ERROR {
		return e
	}
	e.Seen = "not synchronized"
	e.Findings = []preflight.Finding{{
		Kind:     ClockUnsynchronized,
		Severity: preflight.Note,
		Message:  "the clock is not synchronized: log lines may have the wrong time; knocks and grants count by a clock that never jumps",
		Hints:    []string{"run a time service, as systemd-timesyncd or chrony"},
	}}
	if p.HasKeys() {
		f := &e.Findings[0]
		f.Severity = preflight.Warning
		f.Message = "the clock is not synchronized: a key opens nothing for a client whose clock is more than a minute behind this one, or seconds ahead"
	}
	return e
}
