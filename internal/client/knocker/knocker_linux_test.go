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

	"postern/internal/client/knocker"
	"postern/internal/lab"
	"postern/internal/packet"
	"postern/internal/policy"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

func ports(t *testing.T, text string) []policy.Port {
	t.Helper()
	var all []policy.Port
	for word := range strings.FieldsSeq(text) {
		p, err := policy.ParsePort(word)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// Each knock is one packet, also a second later, when a system sends again what
// was not answered.
func TestKnock(t *testing.T) {
	for _, family := range []string{"192.0.2.0/24", "2001:db8::/64"} {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			l := lab.NewT(t)
			client, server := l.Host("client"), l.Host("server")
			_, downlink := l.Connect(client, server, family)
			to := downlink.Addr4()
			if !to.IsValid() {
				to = downlink.Addr6()
			}
			l.Settle()
			// The server does not answer, as a closed one does not.
			out, err := server.Command(t.Context(), "nft", "add table inet x; add chain inet x in { type filter hook input priority 0; };"+
				" add rule inet x in meta l4proto { tcp, udp } drop").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			capture, err := downlink.Capture(func(p *packet.Packet) bool {
				return p.Dst == to && (p.TCP != nil || p.UDP != nil || p.ICMP != nil && (p.ICMP.Type == 8 || p.ICMP.Type == 128))
			})
			if err != nil {
				t.Fatal(err)
			}
			defer capture.Close()

			want := ports(t, "1234 udp/4000 2345 icmp/echo 3456")
			var said []policy.Port
			err = client.Do(func() error {
				return knocker.Knock(t.Context(), to, want, time.Millisecond, func(p policy.Port) { said = append(said, p) })
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, said); diff != "" {
				t.Errorf("said: -want +got:\n%s", diff)
			}
			// The kernel's clock cannot be turned: it sends a SYN again after a second.
			time.Sleep(1300 * time.Millisecond)
			got, err := capture.Drain()
			if err != nil {
				t.Fatal(err)
			}
			var arrived []policy.Port
			for _, p := range got {
				switch {
				case p.TCP != nil:
					if p.TCP.Flags != packet.SYN {
						t.Errorf("more than a SYN: %v", p.Packet)
					}
					arrived = append(arrived, policy.Port{Protocol: policy.TCP, Number: p.TCP.DstPort})
				case p.UDP != nil:
					arrived = append(arrived, policy.Port{Protocol: policy.UDP, Number: p.UDP.DstPort})
				default:
					arrived = append(arrived, policy.Port{Protocol: policy.ICMP})
				}
			}
			if diff := cmp.Diff(want, arrived); diff != "" {
				t.Errorf("arrived: -want +got:\n%s", diff)
			}
		})
	}
}

func TestKnockFails(t *testing.T) {
	l := lab.NewT(t)
	client := l.Host("client")
	for _, knock := range []string{"1234", "udp/1234", "icmp/echo"} {
		err := client.Do(func() error {
			return knocker.Knock(t.Context(), netip.MustParseAddr("203.0.113.1"), ports(t, knock), 0,
				func(policy.Port) { t.Error("Knock reported a knock, though no packet could be sent") })
		})
		if err == nil || !strings.Contains(err.Error(), "203.0.113.1: network is unreachable") {
			t.Errorf("%s: got %v", knock, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := client.Do(func() error {
		return knocker.Knock(ctx, netip.MustParseAddr("127.0.0.1"), ports(t, "1 2 3"), time.Hour, func(policy.Port) { n++; cancel() })
	})
	if n != 1 || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled after %d knocks: %v", n, err)
	}
	err = client.Do(func() error {
		return knocker.Knock(t.Context(), netip.MustParseAddr("fe80::1%nowhere"), ports(t, "1"), 0, func(policy.Port) {})
	})
	if err == nil || !strings.Contains(err.Error(), `interface "nowhere" does not exist`) {
		t.Errorf("an unknown interface: %v", err)
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct {
		host   string
		family knocker.Family
		want   string
	}{
		{"192.0.2.1", knocker.AnyFamily, "[192.0.2.1]"},
		{"192.0.2.1", knocker.IPv4, "[192.0.2.1]"},
		{"::ffff:192.0.2.1", knocker.IPv4, "[192.0.2.1]"},
		{"2001:db8::1", knocker.IPv6, "[2001:db8::1]"},
		{"fe80::1%eth0", knocker.AnyFamily, "[fe80::1%eth0]"},
		{"192.0.2.1", knocker.IPv6, `"192.0.2.1" has no IPv6 address`},
		{"2001:db8::1", knocker.IPv4, `"2001:db8::1" has no IPv4 address`},
	} {
		all, err := knocker.ResolveAll(t.Context(), test.host, test.family)
		got := fmt.Sprint(all)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s %s: got %q, want %q", test.host, test.family, got, test.want)
		}
	}
}
