package client

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/document"
	"postern/internal/hosts"
)

// A ShutError reports that a door did not open.
type ShutError struct {
	Host  *hosts.Host
	To    Destination
	Ways  []knocker.Way // at least one
	Tries []knocker.Try // those that came to an end
	Effort
	Err error
}

func (e *ShutError) Unwrap() error { return e.Err }

// Unsent reports whether no knock has left this machine: that is no fault of the
// door.
func (e *ShutError) Unsent() bool {
	sum := total(seenAt(e.Tries))
	return sum.Tries > 0 && sum.Unsent == sum.Tries
}

// Gist is the error without its numbers, by which two are compared.
func (e *ShutError) Gist() string {
	return e.where() + " " + strings.Join(e.parts(": "), ", ")
}

func (e *ShutError) Error() string {
	all, where := seenAt(e.Tries), e.where()
	failed := fmt.Sprintf("%s did not open after %s", where, e.tries())
	switch {
	case len(all) == 0:
		return where + ": not enough time to try once"
	case len(all) > 1:
		return failed + ": " + strings.Join(e.parts(": "), "; ")
	case all[0].Unsent == all[0].Tries:
		return where + " " + all[0].String()
	}
	return failed + ": " + all[0].String()
}

// parts says of each address what was seen there.
func (e *ShutError) parts(separator string) []string {
	all := seenAt(e.Tries)
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = s.address.String() + separator + s.String()
	}
	return parts
}

// where names the destination: "tcp/22 of home.example (192.0.2.1)".
func (e *ShutError) where() string {
	where := e.To.String(e.Host)
	if first := e.Ways[0].Service.Addr(); first.String() != e.To.at(e.Host) && e.oneAddress() {
		where += fmt.Sprintf(" (%s)", first)
	}
	return where
}

func (e *ShutError) oneAddress() bool {
	for _, w := range e.Ways {
		if w.Service.Addr() != e.Ways[0].Service.Addr() {
			return false
		}
	}
	return true
}

// tries is "8 tries in 2s".
func (e *ShutError) tries() string {
	took := brief(e.Took)
	if e.Took >= time.Second {
		took = document.FormatDuration(e.Took.Round(100 * time.Millisecond))
	}
	if e.Effort.Tries == 1 {
		return "1 try in " + took
	}
	return fmt.Sprintf("%d tries in %s", e.Effort.Tries, took)
}

const (
	hintMoreTime = "give it more --timeout"
	hintNetwork  = "see whether this machine is on a network"
	hintIPv6     = "see whether this machine is on a network that has IPv6"
	hintOwnRules = "see whether a firewall on this machine blocks it"
)

// Hints returns the likely causes that fit what was seen.
func (e *ShutError) Hints() []string {
	all := seenAt(e.Tries)
	sum := total(all)
	switch {
	case sum.Tries == 0:
		return []string{hintMoreTime}
	case e.Unsent():
		last := all[len(all)-1]
		return []string{UnsentHint(last.address, last.err)}
	case e.Host.Key != nil:
		return e.keyHints(sum)
	case sum.Refused > 0:
		return []string{
			"the knocks may be out of date, or the service may not be running; both look like a refusal",
			"other packets from your address may arrive between the knocks, of a neighbour behind the same router for example",
		}
	case sum.Silent > 0:
		return []string{
			"the knocks may be out of date, or the host may be down; both look like silence",
			"a firewall on the way may block these ports: try another network",
		}
	}
	return []string{"the host may be down, or a firewall on the way may answer for it"}
}

// keyHints returns the likely causes where a key did not open the door. The server
// does not tell them apart, so that nobody learns what is wrong with a forged token.
func (e *ShutError) keyHints(sum Seen) []string {
	hints := []string{
		fmt.Sprintf("this machine's clock may be wrong: it says %s UTC, and a token is good for a minute", time.Now().UTC().Format("15:04:05 on 2006-01-02")),
		"the key may be revoked, expired or out of date: ask for a new link",
	}
	if sum.Refused > 0 {
		hints = append(hints, "the service may not be running; that looks the same")
	} else {
		hints = append(hints, "the host may be down; that looks the same")
	}
	var sent []string
	for _, t := range e.Tries {
		if name := t.By.String(); !t.Unsent() && !slices.Contains(sent, name) {
			sent = append(sent, name)
		}
	}
	return append(hints, fmt.Sprintf("a firewall on the way may drop tokens, which were sent by %s: try another network", strings.Join(sent, ", ")))
}

// UnsentHint returns what to do about packets that cannot leave this machine.
func UnsentHint(to netip.Addr, err error) string {
	switch {
	case forbidden(err):
		return hintOwnRules
	case to.Is6():
		return hintIPv6
	}
	return hintNetwork
}
