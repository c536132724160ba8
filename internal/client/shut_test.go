package client

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/hosts"
	"postern/internal/key"
	"postern/internal/policy"
)

// TestStaysShut tells likely causes apart by what was seen.
func TestStaysShut(t *testing.T) {
	h := hosts.New("home")
	h.Address = "home.example"
	h.Knock = make([]policy.Port, 3)
	to := Destination{Port: policy.Port{Protocol: policy.TCP, Number: 22}}
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
		name   string
		at     []string
		tries  []knocker.Try
		unsent bool
		want   string
		hint   string // how the first one begins
	}{
		{"no time", []string{v4}, nil, false,
			"tcp/22 of home.example (192.0.2.1): not enough time to try once", "give it more --timeout"},
		{"silence", []string{v4}, at(v4, silent, silent), false,
			"tcp/22 of home.example (192.0.2.1) did not open after 2 tries in 1.9s: no answer", outOfDate + "the host may be down"},
		{"refusals", []string{v4}, at(v4, refused), false,
			"tcp/22 of home.example (192.0.2.1) did not open after 1 try in 1.9s: refused", outOfDate + "the service may not be running"},
		{"now and then a refusal", []string{v4}, at(v4, silent, refused, silent), false,
			"tcp/22 of home.example (192.0.2.1) did not open after 3 tries in 1.9s: refused, or no answer", outOfDate + "the service may not be running"},
		{"a router's word", []string{v4}, at(v4, told), false,
			"tcp/22 of home.example (192.0.2.1) did not open after 1 try in 1.9s: cannot be reached: no route to host", "the host may be down"},
		{"no network", []string{v4}, at(v4, unsent, unsent), true,
			"tcp/22 of home.example (192.0.2.1) cannot be reached from here: network is unreachable", hintNetwork},
		{"no IPv6", []string{v6}, at(v6, unsent), true,
			"tcp/22 of home.example (2001:db8::1) cannot be reached from here: network is unreachable", hintIPv6},
		{"forbidden", []string{v4}, at(v4, forbidden), true,
			"tcp/22 of home.example (192.0.2.1) cannot be reached from here: operation not permitted", hintOwnRules},
		{"a network that went", []string{v4}, at(v4, silent, unsent), false,
			"tcp/22 of home.example (192.0.2.1) did not open after 2 tries in 1.9s: no answer", outOfDate + "the host may be down"},
		{"two addresses", []string{v6, v4}, append(at(v6, unsent, unsent), at(v4, refused)...), false,
			"tcp/22 of home.example did not open after 3 tries in 1.9s: 2001:db8::1: cannot be reached from here: network is unreachable; 192.0.2.1: refused", outOfDate + "the service may not be running"},
		{"two addresses, and no network", []string{v6, v4}, append(at(v6, unsent), at(v4, unsent)...), true,
			"tcp/22 of home.example did not open after 2 tries in 1.9s: 2001:db8::1: cannot be reached from here: network is unreachable; 192.0.2.1: cannot be reached from here: network is unreachable", hintNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ways []knocker.Way
			for _, a := range test.at {
				ways = append(ways, way(a))
			}
			e := &ShutError{Host: &h, To: to, Ways: ways, Tries: test.tries,
				Effort: Effort{Tries: len(test.tries), Took: 1949 * time.Millisecond}, Err: context.DeadlineExceeded}
			if e.Unsent() != test.unsent || e.Error() != test.want || !strings.HasPrefix(e.Hints()[0], test.hint) {
				t.Errorf("got unsent %v, %q, %q", e.Unsent(), e.Error(), e.Hints())
			}
		})
	}
}

// TestKeyStaysShut: a key that does not open the door has more causes, and the first to
// look at is the clock.
func TestKeyStaysShut(t *testing.T) {
	h := hosts.New("home")
	h.Address, h.Key, h.Token = "home.example", &key.Credential{}, 40123
	a := netip.MustParseAddr("192.0.2.1")
	way := knocker.Way{Knock: a, Service: netip.AddrPortFrom(a, 22)}
	try := func(by knocker.Envelope, refused bool) knocker.Try {
		return knocker.Try{Way: way, By: knocker.Passage{Envelope: by}, Waited: time.Second, Refused: refused, Err: context.DeadlineExceeded}
	}
	unsent := knocker.Try{Way: way, Err: fmt.Errorf("sending a token: %w", syscall.ENETUNREACH)}
	const key = "the key may be revoked, expired or out of date: ask for a new link"
	for _, test := range []struct {
		tries []knocker.Try
		hints []string // but for the first
	}{
		{[]knocker.Try{try(knocker.Datagram, false), try(knocker.SYNData, false), try(knocker.SYNData, false)},
			[]string{key, "the host may be down; that looks the same",
				"a firewall on the way may drop tokens, which were sent by UDP, TCP: try another network"}},
		{[]knocker.Try{try(knocker.Datagram, true), unsent},
			[]string{key, "the service may not be running; that looks the same",
				"a firewall on the way may drop tokens, which were sent by UDP: try another network"}},
	} {
		e := &ShutError{Host: &h, Ways: []knocker.Way{way}, Tries: test.tries, Err: context.DeadlineExceeded}
		got := e.Hints()
		if !strings.HasPrefix(got[0], "this machine's clock may be wrong: it says ") || !slices.Equal(got[1:], test.hints) {
			t.Errorf("got %q", got)
		}
	}
	e := &ShutError{Host: &h, Ways: []knocker.Way{way}, Tries: []knocker.Try{unsent}, Err: context.DeadlineExceeded}
	if got := e.Hints(); !e.Unsent() || !slices.Equal(got, []string{hintNetwork}) {
		t.Errorf("nothing was sent: %q", got)
	}
}
