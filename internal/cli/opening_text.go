package cli

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/client/knocker"
	"postern/internal/document"
	"postern/internal/hosts"
)

const (
	hintNameServer  = "see whether this machine is on a network; an address in place of the name needs no name server"
	hintSpelling    = "see how the name is written; one that only some network knows is known there alone"
	hintBareAddress = "write the name or the address alone"
	hintNetwork     = "see whether this machine is on a network"
	hintIPv6        = "see whether this machine is on a network that has IPv6"
	hintOwnRules    = "see whether a firewall of this machine's own forbids it"
)

// howOpened is "at the 2nd try, after 812ms".
func howOpened(o *opened) string {
	took := "after " + brief(o.took)
	if o.Tries > 1 {
		return fmt.Sprintf("at the %s try, %s", ordinal(o.Tries), took)
	}
	return took
}

// brief is a time that nobody wants to know more exactly.
func brief(d time.Duration) string {
	if d < time.Millisecond {
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	}
	return d.Round(time.Millisecond).String()
}

func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}

// cause is what the system says of an error, without what was done when: that is
// told by others. Where the system has said nothing, it is the whole error.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

func unknownAddress(err *knocker.LookupError) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: err.Error(), Hints: []string{hintNameServer}, Err: err}
	errno, spoken := errors.AsType[syscall.Errno](err)
	switch {
	case err.Unknown() && strings.ContainsAny(err.Host, ":[]/@"):
		f.Hints = []string{hintBareAddress}
	case err.Unknown():
		f.Hints = []string{hintSpelling}
	case spoken:
		f.Message = fmt.Sprintf("the address of %q cannot be looked up: %v", err.Host, errno)
	case refusedToTell(err):
		f.Message = fmt.Sprintf("the address of %q cannot be looked up: the name server does not tell", err.Host)
	default:
		f.Message = fmt.Sprintf("the address of %q cannot be looked up: no name server answers", err.Host)
	}
	return f
}

// refusedToTell tells whether a name server has answered, but not the question. The
// package net has words alone for it.
func refusedToTell(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.Err == "server misbehaving"
}

func noCommonFamily(h *hosts.Host, there string) *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: fmt.Sprintf("%q and %q have no addresses of one family, and a door opens for the address that knocks", h.Address, there),
	}
}

func noTurn(address string) *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: fmt.Sprintf("other openings at %s have not come to an end: this one had no turn", address),
		Hints: []string{"openings at one address take turns, so as not to spoil each other's knocks: give it more --timeout"},
	}
}

func noZone(a netip.Addr) *ui.Failure {
	return &ui.Failure{
		Code: ui.CodeFailed, Message: fmt.Sprintf("address %q is valid only on one network", a),
		Hints: []string{fmt.Sprintf("name the interface after it, as in %s%%eth0", a)},
	}
}

func noInterface(a netip.Addr, names []string) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeFailed, Message: fmt.Sprintf("%q: this machine has no interface %q", a, a.Zone())}
	if len(names) > 0 {
		f.Hints = []string{"its interfaces are " + ui.List(names)}
	}
	return f
}

// whereAt names a destination: "tcp/22 of home.example (192.0.2.1)".
func whereAt(h *hosts.Host, to destination, ways []knocker.Way) string {
	host := to.host
	if host == "" {
		host = h.Address
	}
	where := fmt.Sprintf("%s of %s", to.port, host)
	if first := ways[0].Service.Addr().String(); first != host && oneAddress(ways) {
		where += fmt.Sprintf(" (%s)", first)
	}
	return where
}

func oneAddress(ways []knocker.Way) bool {
	for _, w := range ways {
		if w.Service.Addr() != ways[0].Service.Addr() {
			return false
		}
	}
	return true
}

// knockedFor is "after 8 rounds of 3 knocks in 2s".
func knockedFor(h *hosts.Host, e effort) string {
	took := brief(e.took)
	if e.took >= time.Second {
		took = document.FormatDuration(e.took.Round(100 * time.Millisecond))
	}
	return fmt.Sprintf("after %s of %s in %s", ui.Count(e.Tries, "round"), ui.Count(len(h.Knock), "knock"), took)
}

// staysShut says which of the likely causes fits what was seen.
func staysShut(h *hosts.Host, to destination, ways []knocker.Way, shut *knocker.OpenError, e effort) *ui.Failure {
	f := &ui.Failure{Code: ui.CodeShut, Tries: e.Tries, Milliseconds: e.Milliseconds, Err: shut}
	where, all := whereAt(h, to, ways), sights(shut.Tries)
	rounds := knockedFor(h, e)
	if len(all) == 0 {
		f.Message = fmt.Sprintf("%s: no time for a round of knocks", where)
		f.Hints = []string{"give it more --timeout"}
		return f
	}
	sum, unsent := total(all), 0
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = s.address.String() + " " + s.String()
		if s.unsent == s.tries {
			unsent++
		}
	}
	f.Gist = where + " " + strings.Join(parts, ", ")
	switch {
	case len(all) > 1:
		f.Message = fmt.Sprintf("%s does not open, %s: %s", where, rounds, strings.Join(parts, ", "))
	case unsent == 1:
		f.Message = where + " " + all[0].String()
	default:
		f.Message = fmt.Sprintf("%s %s, %s", where, all[0].String(), rounds)
	}
	switch {
	case unsent == len(all):
		f.Code = ui.CodeFailed
		f.Hints = []string{unsentHint(all[len(all)-1].address, all[len(all)-1].err)}
	case sum.refused > 0:
		f.Hints = []string{
			"the knocks may be out of date, or the service not running: refusals look the same",
			"another network on the way, or a neighbour behind the same address, may send packets of its own in between",
		}
	case sum.silent > 0:
		f.Hints = []string{
			"the knocks may be out of date, or the host be off: silence looks the same",
			"a firewall between here and there may stop connections to such ports: try another network",
		}
	default:
		f.Hints = []string{"the host may be off, or a firewall between here and there say this in its place"}
	}
	return f
}

// String says what was seen at an address, in a sentence that begins with it.
func (s *sight) String() string {
	switch {
	case s.unsent == s.tries:
		return "cannot be reached from here: " + cause(s.err)
	case s.refused > 0 && s.silent > 0:
		return "refuses, or does not answer"
	case s.refused > 0:
		return "refuses"
	case s.silent > 0:
		return "does not answer"
	}
	return "cannot be reached: " + cause(s.err)
}

// unsentHint says what to do about packets that do not leave.
func unsentHint(to netip.Addr, err error) string {
	switch {
	case forbidden(err):
		return hintOwnRules
	case to.Is6():
		return hintIPv6
	}
	return hintNetwork
}

func brokenOff(err error) *ui.Failure {
	return &ui.Failure{Code: ui.CodeFailed, Message: "the connection broke off: " + cause(err), Err: err}
}
