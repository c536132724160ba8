package nftables

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/automaton"
	"postern/internal/firewall/bpf"
	"postern/internal/firewall/conformance"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

const earlyUDPDoors = `keys: {port: udp/40123}
users: {alice: {devices: [laptop]}}
doors:
  ssh: {service: tcp/22, knock: {sequence: [udp/1234, 2345, udp/3456], step_timeout: 100ms, key: [alice]}, open_for: 1h}
  name: {service: udp/53, knock: {sequence: [1, 2], step_timeout: 100ms}, open_for: 1h}
`

// needUDP skips a test where the kernel lets no program ask connection tracking.
func needUDP(t *testing.T) {
	t.Helper()
	conformance.NeedBPF(t)
	if counts, err := bpf.CountsUDP(); err != nil || !counts {
		t.Skip("datagrams are not dropped early here: ", err)
	}
}

// spend sends datagrams of a source until they are dropped early, and fails the test if they
// are not. What it sends is for a port.
func (s *scene) spend(t *testing.T, from netip.Addr, to policy.Port, payload []byte) {
	t.Helper()
	before := s.Inspect().Early.Packets
	for range 20 {
		for range 2 * automaton.Attempts.Burst {
			s.Send(s.Carry(from, to, payload))
		}
		s.Settled()
		if s.Inspect().Early.Packets > before+uint64(automaton.Attempts.Burst) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("datagrams from %v to %v are not dropped early", from, to)
}

// TestEarlyDropUDP: of datagrams that nobody waits for most are dropped before the rules see
// them, junk to the port of keys as well. A right token and a flow that is known pass, however
// much its sender has sent.
func TestEarlyDropUDP(t *testing.T) {
	needUDP(t)
	t.Parallel()
	s := newScene(t)
	m := labtest.Compile(t, Backend{}, labtest.Closed+earlyUDPDoors)
	ring := labtest.Keys(m)
	s.Apply(m)
	times := labtest.NewTimes()
	if e := s.Inspect().Early; e == nil || !e.UDP || !slices.Contains(e.Interfaces, s.Gate.Name) {
		t.Fatalf("dropped early: %+v", e)
	}
	labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.EchoUDP(t, s.Gate, 53)
	time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		// Junk, and then a token.
		from := s.NewAddress(f)
		var junk key.Token
		s.spend(t, from, labtest.TokenPort, junk[:])
		token := labtest.Credential(ring, "alice/laptop", "ssh").Token(times.Next(), netip.Addr{}, key.Lane4)
		s.Send(s.Carry(from, labtest.TokenPort, token[:]))
		s.Expect(t, from, labtest.TCP(22), labtest.SYNACK, "a token after junk")

		// Datagrams that knock.
		from = s.NewAddress(f)
		s.Knock(from, labtest.UDP(1234), labtest.TCP(2345), labtest.UDP(3456))
		s.Expect(t, from, labtest.TCP(22), labtest.SYNACK, "after the knocks")
		s.spend(t, from, labtest.UDP(4000), nil)
		var all []*packet.Packet // at once: the budget grows while a busy machine does something else
		for range 2 * automaton.Attempts.Burst {
			all = append(all, s.Carry(from, labtest.UDP(4000), nil))
		}
		for _, knock := range []policy.Port{labtest.UDP(1234), labtest.TCP(2345), labtest.UDP(3456)} {
			all = append(all, s.ToGateway(from, knock))
		}
		s.Send(all...)
		s.Expect(t, from, labtest.TCP(22), labtest.Silence, "after knocks that do not count")

		// A flow that a grant has let in, and goes on.
		from = s.NewAddress(f)
		s.Knock(from, labtest.TCP(1), labtest.TCP(2))
		flow := s.ToGateway(from, labtest.UDP(53))
		s.answered(t, flow, "the first of a flow")
		s.spend(t, from, labtest.UDP(4000), nil)
		for range 3 {
			s.answered(t, flow, "of a known flow")
		}
	})
}

// answered fails the test if a datagram does not come in.
func (s *scene) answered(t *testing.T, p *packet.Packet, what string) {
	t.Helper()
	if got := s.Ask(p); got != labtest.Received {
		t.Errorf("a datagram %s: %s", what, got)
	}
}

// TestEarlyDropAnswers: answers to this host, and to one that is masqueraded behind it, come in
// though the budget of who answers is spent; also where others' rules have put the flow into a
// zone of connection tracking that the program does not ask.
func TestEarlyDropAnswers(t *testing.T) {
	needUDP(t)
	t.Parallel()
	for name, zone := range map[string]string{"plain": "", "zone": `
		chain pre { type filter hook prerouting priority raw; ct zone set 7; }
		chain out { type filter hook output priority raw; ct zone set 7; }`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddInner()
			s.Gateway.Sysctl("net.ipv4.ip_forward", "1")
			s.Gateway.Sysctl("net.ipv6.conf.all.forwarding", "1")
			s.Up(labtest.Closed + earlyDoors)
			load := s.Gateway.Command(t.Context(), "nft", "table inet others { "+zone+`
				chain post { type nat hook postrouting priority srcnat; oifname "`+s.Gate.Name+`" masquerade; }
			}`)
			if out, err := load.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			labtest.EchoUDP(t, s.Outside, 53)
			time.Sleep(300 * time.Millisecond)
			askers := map[string]*lab.Host{"this host": s.Gateway}
			if zone == "" { // in a zone, what is masqueraded has no socket here: see docs/limits.md
				askers["the host behind"] = s.Inner
			}
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				resolver := netip.AddrPortFrom(labtest.On(s.Outside, f), 53)
				ask := map[string]net.Conn{}
				for who, h := range askers {
					conn, err := h.Dial(t.Context(), "udp", resolver)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					ask[who] = conn
				}
				s.spend(t, resolver.Addr(), labtest.UDP(4000), nil)
				junk, err := s.ToGateway(resolver.Addr(), labtest.UDP(4000)).Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				flood := s.newFlood(t, s.CPU, 2000, slices.Repeat([][]byte{junk}, 256)) // it stays spent
				defer flood.end(t)
				for who, conn := range ask {
					for i := range 5 {
						question := []byte{byte(i), 'q'}
						answer := make([]byte, 10)
						conn.SetDeadline(time.Now().Add(5 * time.Second))
						if _, err := conn.Write(question); err != nil {
							t.Fatal(err)
						}
						if n, err := conn.Read(answer); err != nil || !slices.Equal(answer[:n], question) {
							t.Errorf("the answer to %s is %q: %v", who, answer[:n], err)
						}
					}
				}
			})
		})
	}
}

// TestEarlyDropTranslated: what others' rules send on to another host before ours see it, without
// connection tracking, gets there, though it was counted as for this host.
func TestEarlyDropTranslated(t *testing.T) {
	needUDP(t)
	t.Parallel()
	s := newScene(t)
	s.AddInner()
	s.Up(labtest.Closed + earlyDoors)
	rules := strings.NewReplacer("GATE", s.Gate.Name, "OUTER", s.Gate.Addr4().String(), "INNER", s.Home.Addr4().String()).Replace(`
		table ip others {
			chain pre {
				type filter hook prerouting priority -310
				iifname "GATE" th dport 5004 notrack ip daddr set INNER
				ip saddr INNER th sport 5004 notrack
			}
			chain post {
				type filter hook postrouting priority 310
				oifname "GATE" ip saddr INNER th sport 5004 ip saddr set OUTER
			}
		}`)
	if out, err := s.Gateway.Command(t.Context(), "nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	labtest.EchoUDP(t, s.Home, 5004)
	labtest.Greet(t, s.Inner, 5004, "inner")
	to := netip.AddrPortFrom(s.Gate.Addr4(), 5004)
	labtest.Dial(t, s.Client, to, "inner")
	conn, err := s.Client.Dial(t.Context(), "udp", to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 10)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "x" {
		t.Errorf("the answer is %q: %v", answer[:n], err)
	}
}

// TestEarlyDropAside: where filters or rules of others send datagrams on before any rule of ours
// is asked, all get there, though they are for this host's address and of no known flow.
func TestEarlyDropAside(t *testing.T) {
	needUDP(t)
	t.Parallel()
	for name, divert := range map[string]func(*testing.T, *scene) error{
		"filter": redirect,
		"netdev": rules(`table netdev others { chain c {
			type filter hook ingress device "GATE" priority 0
			udp dport 5004 fwd to "HOME"
		}
		}`),
		"netdev, some devices": rules(`table netdev others { chain c {
			type filter hook ingress devices = { "lo", "GATE" } priority 0
			udp dport 5004 ip daddr set INNER
		}
		}`),
		"inet": rules(`table inet others { chain c {
			type filter hook ingress device "GATE" priority 0
			udp dport 5004 ip daddr set INNER
		}
		}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.AddInner()
			if err := divert(t, s); errors.Is(err, unix.ENOENT) {
				t.Skip("this kernel lacks what it takes")
			} else if err != nil {
				t.Fatal(err)
			}
			s.Up(labtest.Closed + earlyDoors)
			arrived, err := s.Home.Capture(nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
			from, n, got := s.NewAddress(labtest.IPv4), 5*int(automaton.Attempts.Burst), 0
			for range n {
				s.Send(s.ToGateway(from, labtest.UDP(5004)))
			}
			s.Settled()
			all, err := arrived.Drain()
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range all {
				if c.UDP != nil && c.UDP.DstPort == 5004 {
					got++
				}
			}
			if got != n {
				t.Errorf("%d of %d datagrams arrive", got, n)
			}
		})
	}
}

// rules has nft load a text.
func rules(text string) func(*testing.T, *scene) error {
	return func(t *testing.T, s *scene) error {
		text := strings.NewReplacer("GATE", s.Gate.Name, "HOME", s.Inside.Name, "INNER", s.Home.Addr4().String()).Replace(text)
		out, err := s.Gateway.Command(t.Context(), "nft", text).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}

// redirect has a filter send UDP to port 5004 on to the inner host's cable.
func redirect(_ *testing.T, s *scene) error {
	return s.Gateway.Do(func() error {
		from, err := netlink.LinkByName(s.Gate.Name)
		if err != nil {
			return err
		}
		to, err := netlink.LinkByName(s.Inside.Name)
		if err != nil {
			return err
		}
		at := from.Attrs().Index
		if err := netlink.QdiscAdd(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: at, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		}}); err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.U32{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: at, Parent: netlink.HANDLE_MIN_INGRESS, Priority: 7, Protocol: unix.ETH_P_IP},
			Sel: &netlink.TcU32Sel{Flags: netlink.TC_U32_TERMINAL, Nkeys: 1, Keys: []netlink.TcU32Key{
				{Mask: 0xffff, Val: 5004, Off: 20}, // the ports follow a header of 20 octets
			}},
			Actions: []netlink.Action{netlink.NewMirredAction(to.Attrs().Index)},
		})
	})
}
