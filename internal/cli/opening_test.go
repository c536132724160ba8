package cli

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/cli/ui"
	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/policy"
)

// TestStaysShut tells likely causes apart by what was seen.
func TestStaysShut(t *testing.T) {
	h := hosts.New("home")
	h.Address = "home.example"
	h.Knock = make([]policy.Port, 3)
	to := destination{port: policy.Port{Protocol: policy.TCP, Number: 22}}
	way := func(address string) knocker.Way {
		a := netip.MustParseAddr(address)
		return knocker.Way{Knock: a, Service: netip.AddrPortFrom(a, 22)}
	}
	dial := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	refused := knocker.Try{Waited: time.Millisecond, Refused: true, Err: dial(syscall.ECONNREFUSED)}
	silent := knocker.Try{Waited: time.Second, Err: &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}}
	told := knocker.Try{Waited: time.Millisecond, Err: dial(syscall.EHOSTUNREACH)}
	unsent := knocker.Try{Err: fmt.Errorf("knocking at tcp/1: %w", syscall.ENETUNREACH)}
	forbidden := knocker.Try{Err: fmt.Errorf("knocking at tcp/1: %w", syscall.EPERM)}
	at := func(address string, tries ...knocker.Try) []knocker.Try {
		for i := range tries {
			tries[i].Way = way(address)
		}
		return tries
	}
	const v4, v6 = "192.0.2.1", "2001:db8::1"
	const outOfDate = "the knocks may be out of date, or "
	for _, test := range []struct {
		name  string
		at    []string
		tries []knocker.Try
		code  int
		want  string
		hint  string // how the first one begins
	}{
		{"no time", []string{v4}, nil, ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1): no time for a round of knocks", "give it more --timeout"},
		{"silence", []string{v4}, at(v4, silent, silent), ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1) does not answer, after 2 rounds of 3 knocks in 1.9s", outOfDate + "the host be off"},
		{"refusals", []string{v4}, at(v4, refused), ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1) refuses, after 1 round of 3 knocks in 1.9s", outOfDate + "the service not running"},
		{"now and then a refusal", []string{v4}, at(v4, silent, refused, silent), ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1) refuses, or does not answer, after 3 rounds of 3 knocks in 1.9s", outOfDate + "the service not running"},
		{"a router's word", []string{v4}, at(v4, told), ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1) cannot be reached: no route to host, after 1 round of 3 knocks in 1.9s", "the host may be off"},
		{"no network", []string{v4}, at(v4, unsent, unsent), ui.CodeFailed,
			"tcp/22 of home.example (192.0.2.1) cannot be reached from here: network is unreachable", hintNetwork},
		{"no IPv6", []string{v6}, at(v6, unsent), ui.CodeFailed,
			"tcp/22 of home.example (2001:db8::1) cannot be reached from here: network is unreachable", hintIPv6},
		{"forbidden", []string{v4}, at(v4, forbidden), ui.CodeFailed,
			"tcp/22 of home.example (192.0.2.1) cannot be reached from here: operation not permitted", hintOwnRules},
		{"a network that went", []string{v4}, at(v4, silent, unsent), ui.CodeShut,
			"tcp/22 of home.example (192.0.2.1) does not answer, after 2 rounds of 3 knocks in 1.9s", outOfDate + "the host be off"},
		{"two addresses", []string{v6, v4}, append(at(v6, unsent, unsent), at(v4, refused)...), ui.CodeShut,
			"tcp/22 of home.example does not open, after 3 rounds of 3 knocks in 1.9s: 2001:db8::1 cannot be reached from here: network is unreachable, 192.0.2.1 refuses", outOfDate + "the service not running"},
		{"two addresses, and no network", []string{v6, v4}, append(at(v6, unsent), at(v4, unsent)...), ui.CodeFailed,
			"tcp/22 of home.example does not open, after 2 rounds of 3 knocks in 1.9s: 2001:db8::1 cannot be reached from here: network is unreachable, 192.0.2.1 cannot be reached from here: network is unreachable", hintNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ways []knocker.Way
			for _, a := range test.at {
				ways = append(ways, way(a))
			}
			f := staysShut(&h, to, ways, &knocker.OpenError{Tries: test.tries, Err: context.DeadlineExceeded},
				effort{Tries: len(test.tries), took: 1949 * time.Millisecond})
			if f.Code != test.code || f.Message != test.want || !strings.HasPrefix(f.Hints[0], test.hint) {
				t.Errorf("got %d, %q, %q", f.Code, f.Message, f.Hints)
			}
		})
	}
}
