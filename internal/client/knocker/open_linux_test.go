package knocker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"postern/internal/client/knocker"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/lab/impair"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// A hideout is a client, and a server that hides a service and greets who comes in.
type hideout struct {
	client *lab.Host
	door   knocker.Door
}

const greeting = "hello\n"

// hide runs a policy with one door, `tcp/22` behind three knocks, on the server.
func hide(t *testing.T, client, server *lab.Host, to netip.Addr, rest string) *hideout {
	t.Helper()
	return guard(t, client, server, to, "version: 1\nposture: closed\nlog: {target: none}\n"+rest)
}

// guard runs a whole policy.
func guard(t *testing.T, client, server *lab.Host, to netip.Addr, text string) *hideout {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // no other server's budget
	m := labtest.Compile(t, nftables.Backend{}, text)
	labtest.Apply(t, server, nftables.Backend{}, m)
	labtest.Serve(t, server, "tcp", ":22", func(conn net.Conn) { io.WriteString(conn, greeting) })
	d := &m.Policy.Doors[0]
	return &hideout{client: client, door: knocker.Door{
		Ways: []knocker.Way{way(to)}, Knocks: d.Knock.Sequence, StepTimeout: d.Knock.StepTimeout,
	}}
}

// way is by which the service is where the knocks go.
func way(to netip.Addr) knocker.Way {
	return knocker.Way{Knock: to, Service: netip.AddrPortFrom(to, 22)}
}

// open opens the door, and hears the greeting.
func (h *hideout) open(ctx context.Context) (tries int, err error) {
	err = h.client.Do(func() error {
		conn, err := knocker.Open(ctx, h.door, func(knocker.Try) { tries++ })
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		got, err := io.ReadAll(conn)
		if string(got) != greeting {
			return fmt.Errorf("the service said %q, %v", got, err)
		}
		return nil
	})
	return tries, err
}

// The doors: as forgiving as they come, and as strict.
const (
	forgiving = "doors:\n  ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456]}}\n"
	strict    = "doors:\n  ssh: {service: tcp/22, forfeit: true, knock: {sequence: [1234, 2345, 3456], retransmits: reset}}\n"
)

// TestOpen comes in at the first try, and leaves its grant used up.
func TestOpen(t *testing.T) {
	for name, rest := range map[string]string{
		"forgiving": forgiving, "strict": strict, "strict, refusing": "cover: reset\n" + strict,
	} {
		for _, family := range []string{"192.0.2.0/24", "2001:db8::/64"} {
			t.Run(name+" "+family, func(t *testing.T) {
				l := lab.NewT(t)
				client, server := l.Host("client"), l.Host("server")
				_, gate := l.Connect(client, server, family)
				h := hide(t, client, server, address(gate), rest)
				for range 3 {
					if tries, err := h.open(t.Context()); err != nil || tries != 1 {
						t.Errorf("%d tries, %v; want one that comes in", tries, err)
					}
				}
			})
		}
	}
}

func address(k *lab.Link) netip.Addr {
	if a := k.Addr4(); a.IsValid() {
		return a
	}
	return k.Addr6()
}

// TestOpenAtOnce: openings of one client take turns, or they would spoil each other's,
// and none sends more than the server counts. So each comes in at its first try.
func TestOpenAtOnce(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24")
	h := hide(t, client, server, address(gate), strict)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var all sync.WaitGroup
	for range 12 { // the budget is for six
		all.Go(func() {
			if tries, err := h.open(ctx); err != nil || tries != 1 {
				t.Errorf("%d tries, %v", tries, err)
			}
		})
	}
	all.Wait()
}

// TestOpenLong comes in at the first try through doors with more knocks than the
// server counts at once, and again right after that.
func TestOpenLong(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24")
	long := make([]string, policy.MaxKnocks)
	for i := range long {
		long[i] = fmt.Sprint(1000 + i*i)
	}
	h := hide(t, client, server, address(gate), "doors:\n  ssh: {service: tcp/22, knock: {sequence: ["+strings.Join(long, ", ")+"]}}\n")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 2 {
		if tries, err := h.open(ctx); err != nil || tries != 1 {
			t.Errorf("%d tries, %v", tries, err)
		}
	}
}

// TestOpenBesideShut comes in soon, while another opening at the same host goes on in vain.
func TestOpenBesideShut(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24")
	h := hide(t, client, server, address(gate), strict)
	shut := *h
	shut.door.Knocks = h.door.Knocks[:2]
	inVain, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	begun := make(chan struct{}, 1)
	go func() {
		ended <- client.Do(func() error {
			_, err := knocker.Open(inVain, shut.door, func(knocker.Try) {
				select {
				case begun <- struct{}{}:
				default:
				}
			})
			return err
		})
	}()
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 3 {
		if tries, err := h.open(ctx); err != nil {
			t.Errorf("%d tries, %v", tries, err)
		}
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the shut door: %v", err)
	}
}

// TestOpenByEcho knocks by pings, three times in a row, also where they are raw ones: an
// answered echo is a flow, and one that looks like it is part of it and no knock.
func TestOpenByEcho(t *testing.T) {
	for _, sockets := range []string{"0 2147483647", "1 0"} {
		for _, family := range []string{"192.0.2.0/24", "2001:db8::/64"} {
			t.Run(sockets+" "+family, func(t *testing.T) {
				l := lab.NewT(t)
				client, server := l.Host("client"), l.Host("server")
				_, gate := l.Connect(client, server, family)
				client.Sysctl("net/ipv4/ping_group_range", sockets)
				h := guard(t, client, server, address(gate), "version: 1\nposture: guard\nlog: {target: none}\ndoors:\n"+
					"  ssh: {service: tcp/22, knock: {sequence: [1234, icmp/echo, 3456]}}\n")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				for range 3 {
					if tries, err := h.open(ctx); err != nil || tries != 1 {
						t.Fatalf("%d tries, %v; want one that comes in", tries, err)
					}
				}
			})
		}
	}
}

// TestOpenBadNetwork comes in whatever the network does.
func TestOpenBadNetwork(t *testing.T) {
	for name, rest := range map[string]string{"forgiving": forgiving, "strict": strict} {
		t.Run(name, func(t *testing.T) {
			l := lab.NewT(t)
			client, server := l.Host("client"), l.Host("server")
			_, gate, _ := impair.Connect(l, client, server,
				impair.Impairment{Delay: 20 * time.Millisecond, Loss: 0.1, Duplicate: 0.02, Reorder: 0.3, Seed: 7}, "192.0.2.0/24")
			h := hide(t, client, server, address(gate), rest)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			more := 0
			for range 5 {
				tries, err := h.open(ctx)
				if err != nil {
					t.Fatalf("%d tries: %v", tries, err)
				}
				more += tries - 1
			}
			if more == 0 {
				t.Error("every first try came in: the network is not as bad as it should be")
			}
		})
	}
}

// TestOpenFails tells what was seen.
func TestOpenFails(t *testing.T) {
	for _, test := range []struct {
		name, rest string
		refused    bool
	}{
		{"silence", forgiving, false},
		{"refusals", "cover: reset\n" + forgiving, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := lab.NewT(t)
			client, server := l.Host("client"), l.Host("server")
			_, gate := l.Connect(client, server, "192.0.2.0/24")
			h := hide(t, client, server, address(gate), test.rest)
			h.door.Knocks = h.door.Knocks[:2] // the client does not have them all
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			_, err := h.open(ctx)
			var failed *knocker.OpenError
			if !errors.As(err, &failed) {
				t.Fatalf("got %v, want an OpenError", err)
			}
			if len(failed.Tries) < 2 || failed.Refused() != test.refused || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d tries, refused %t: %v", len(failed.Tries), failed.Refused(), err)
			}
		})
	}
}

// TestOpenUnsent gives up at once where nothing can be sent, and not before the last way.
func TestOpenUnsent(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24")
	h := hide(t, client, server, gate.Addr4(), forgiving)
	nowhere := []knocker.Way{way(netip.MustParseAddr("203.0.113.1")), way(netip.MustParseAddr("2001:db8::1"))}
	h.door.Ways = append(nowhere, h.door.Ways...)
	if tries, err := h.open(t.Context()); err != nil || tries != 3 {
		t.Errorf("%d tries, %v; want the third to get in", tries, err)
	}
	h.door.Ways = nowhere
	tries, err := h.open(t.Context())
	if tries != 2 || !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("%d tries, %v; want two that find no way", tries, err)
	}
}

// TestOpenSecondAddress goes on to the next address, with all its knocks.
func TestOpenSecondAddress(t *testing.T) {
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, gate := l.Connect(client, server, "192.0.2.0/24", "2001:db8::/64")
	h := hide(t, client, server, gate.Addr4(), "doors:\n  ssh: {service: tcp/22, from: [192.0.2.0/24], knock: {sequence: [1234, 2345, 3456]}}\n")
	h.door.Ways = []knocker.Way{way(gate.Addr6()), way(gate.Addr4())}
	if tries, err := h.open(t.Context()); err != nil || tries != 2 {
		t.Errorf("%d tries, %v; want the second to get in", tries, err)
	}
}
