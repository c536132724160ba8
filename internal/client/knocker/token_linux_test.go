package knocker_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"postern/internal/client/knocker"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

const tokenPort = 40123

func newKey() *knocker.Key {
	return &knocker.Key{
		Credential: key.Credential{Site: key.NewSite(), Device: key.NewDevice(), Door: key.DoorID("ssh"), Secret: key.NewSecret()},
		Port:       tokenPort,
	}
}

// envelopeOf returns how a packet carries a token, and whether the packet is of a
// kind that may. It fails the test if there is more than a token in it.
func envelopeOf(t *testing.T, p *packet.Packet) (knocker.Envelope, bool) {
	switch {
	case p.UDP != nil && p.UDP.DstPort == tokenPort:
		return knocker.Datagram, true
	case p.ICMP != nil && (p.ICMP.Type == packet.EchoRequest || p.ICMP.Type == packet.EchoRequestV6):
		return knocker.Echo, true
	case p.TCP != nil && p.TCP.DstPort == tokenPort:
		if p.TCP.Flags&^(packet.ECE|packet.CWR) != packet.SYN {
			t.Errorf("more than a SYN: %v", p)
		}
		return knocker.SYNData, true
	}
	return 0, false
}

// TestToken: a user without any privilege sends a token in one packet of each kind, one
// kind after the other, and the server can verify each: every other one is bound to
// the sender's address if that is global, and times rise. Kinds that cannot be sent
// are passed over.
func TestToken(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	// The group of this test, also where it is root of a user namespace only. A new
	// host lets no group send pings.
	pings := func(client *lab.Host) string {
		client.Sysctl("net.ipv4.ping_group_range", "0 0")
		return ""
	}
	all := []knocker.Envelope{knocker.Datagram, knocker.Echo, knocker.SYNData, knocker.Datagram}
	for _, test := range []struct {
		name, network string
		bound         bool
		setup         func(client *lab.Host) string // rules of its output
		want          []knocker.Envelope
	}{
		{"IPv4", "203.0.113.0/24", true, pings, all},
		{"IPv6", "2001:db8::/64", true, pings, all},
		{"private IPv4", "192.168.0.0/24", false, pings, all},
		{"private IPv6", "fd00::/64", false, pings, all},
		{"no pings", "203.0.113.0/24", true, func(*lab.Host) string { return "" }, []knocker.Envelope{knocker.Datagram, knocker.SYNData, knocker.SYNData, knocker.Datagram}},
		{"no data in a SYN", "2001:db8::/64", true, func(client *lab.Host) string {
			client.Sysctl("net.ipv4.tcp_fastopen", "0")
			return pings(client)
		}, []knocker.Envelope{knocker.Datagram, knocker.Echo, knocker.Datagram, knocker.Datagram}},
		{"no UDP", "203.0.113.0/24", true, func(client *lab.Host) string { return pings(client) + "meta l4proto udp drop" },
			[]knocker.Envelope{knocker.Echo, knocker.Echo, knocker.SYNData, knocker.Echo}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := lab.NewT(t)
			client, server := l.Host("client"), l.Host("server")
			uplink, downlink := l.Connect(client, server, test.network)
			own, to := address(uplink), address(downlink)
			// The server is silent, and so is what hides a door.
			rules(t, server, "input", "meta l4proto { tcp, udp } drop; icmp type echo-request drop; icmpv6 type echo-request drop")
			if drop := test.setup(client); drop != "" {
				rules(t, client, "output", drop)
			}
			l.Settle()
			capture, err := downlink.Capture(func(p *packet.Packet) bool { return p.Dst == to })
			if err != nil {
				t.Fatal(err)
			}
			defer capture.Close()

			k := newKey()
			verifier := key.Verifier{Site: k.Site, Window: key.DefaultWindow}
			verifier.Add(k.Device, k.Secret, time.Time{})
			verifier.Allow(k.Device, k.Door, time.Now().Add(-time.Hour))
			other := key.Verifier{Site: k.Site, Window: key.DefaultWindow}
			other.Add(k.Device, k.Secret, time.Time{})
			other.Allow(k.Device, k.Door, time.Now().Add(-time.Hour))

			ctx, cancel := context.WithCancel(t.Context())
			var said []knocker.Envelope
			err = client.Do(func() error {
				return labtest.Without(func() error {
					_, err := knocker.Open(ctx, knocker.Door{Ways: []knocker.Way{way(to)}, Key: k, StepTimeout: 3 * time.Second}, func(try knocker.Try) {
						if said = append(said, try.By.Envelope); len(said) == len(test.want) {
							cancel()
						}
					})
					return err
				})
			})
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, said); diff != "" {
				t.Errorf("said: -want +got\n%s", diff)
			}
			l.Settle()
			got, err := capture.Drain()
			if err != nil {
				t.Fatal(err)
			}
			var arrived []knocker.Envelope
			points := map[key.Tag]bool{} // that the server may know
			for _, tag := range k.Tags(time.Now().Add(-time.Minute), time.Now()) {
				points[tag] = true
			}
			sent := map[key.Tag]bool{}
			for _, c := range got {
				e, is := envelopeOf(t, c.Packet)
				if !is {
					continue
				}
				if tag := key.Token(c.Packet.Payload).Tag(); points[tag] && sent[tag] {
					continue // in one more kind, before a new one
				}
				sent[key.Token(c.Packet.Payload).Tag()] = true
				bound := test.bound && len(arrived)%2 == 0
				arrived = append(arrived, e)
				if len(c.Packet.Payload) != key.TokenSize {
					t.Errorf("%d bytes in %v", len(c.Packet.Payload), c.Packet)
					continue
				}
				token := key.Token(c.Packet.Payload)
				if _, _, _, err := other.Verify(token, netip.MustParseAddr("198.51.100.1"), c.Time); (err == nil) == bound {
					t.Errorf("from another address: %v", err)
				}
				if d, door, _, err := verifier.Verify(token, own, c.Time); err != nil || d != k.Device || door != k.Door {
					t.Errorf("%v by %s: %v, %v, %v", c.Packet, e, d, door, err)
				}
				if _, _, _, err := verifier.Verify(token, own, c.Time); err != key.Replayed {
					t.Errorf("again: %v", err)
				}
				// Each family has a lane of its own.
				for lane, want := range map[key.Lane]error{key.Lane4: key.Replayed, key.Lane6: nil} {
					if own.Is6() {
						lane = key.Lane6 - lane
					}
					older := k.Token(c.Time.Add(-key.Spacing-time.Second), own, lane)
					if _, _, _, err := verifier.Verify(older, own, c.Time); err != want {
						t.Errorf("an older one in lane %d: %v, want %v", lane, err, want)
					}
				}
			}
			first := false // of those that are not bound is of the lattice
			for tag := range sent {
				first = first || points[tag]
			}
			if !first {
				t.Error("no token is one that a server can know in advance")
			}
			if diff := cmp.Diff(test.want, arrived); diff != "" {
				t.Errorf("arrived: -want +got\n%s", diff)
			}
		})
	}
}

// TestTokenRemembered: what came through at an address is tried first there.
func TestTokenRemembered(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	l := lab.NewT(t)
	client, server := l.Host("client"), l.Host("server")
	_, downlink := l.Connect(client, server, "203.0.113.0/24")
	client.Sysctl("net.ipv4.ping_group_range", "0 0")
	labtest.Greet(t, server, 22, greeting)
	k := newKey()
	open := func(want knocker.Envelope) {
		t.Helper()
		err := client.Do(func() error {
			conn, err := knocker.Open(t.Context(), knocker.Door{Ways: []knocker.Way{way(address(downlink))}, Key: k}, func(try knocker.Try) {
				if try.By.Envelope != want {
					t.Errorf("by %s, want %s", try.By, want)
				}
			})
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	open(knocker.Datagram)
	rules(t, client, "output", "meta l4proto udp drop")
	open(knocker.Echo)
	if out, err := client.Command(t.Context(), "nft", "flush ruleset").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	open(knocker.Echo)
	rules(t, client, "output", "icmp type echo-request drop")
	open(knocker.SYNData)
	open(knocker.SYNData)
}

// TestTokenUnsent: without a network Open returns at once.
func TestTokenUnsent(t *testing.T) {
	l := lab.NewT(t)
	client := l.Host("client")
	to := netip.MustParseAddr("203.0.113.1")
	err := client.Do(func() error {
		_, err := knocker.Open(t.Context(), knocker.Door{Ways: []knocker.Way{way(to)}, Key: newKey()}, nil)
		return err
	})
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("got %v", err)
	}
}

// rules loads rules of a chain, which accepts all else.
func rules(t *testing.T, h *lab.Host, hook, text string) {
	t.Helper()
	chain := fmt.Sprintf("add table inet x; add chain inet x c { type filter hook %s priority 0; }; ", hook)
	for rule := range strings.SplitSeq(text, ";") {
		chain += "add rule inet x c " + rule + "; "
	}
	if out, err := h.Command(t.Context(), "nft", chain).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
