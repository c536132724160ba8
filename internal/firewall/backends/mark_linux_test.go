//go:build !(386 || arm || mips || mipsle)

package backends_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"postern/internal/firewall/backends"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/policy"
)

// denies are other firewalls that accept what belongs to a connection, and what is
// marked, and drop the rest. They come after the rules of every backend.
var denies = map[string]string{
	"connection": fmt.Sprintf(deny, "ct mark and 0x1000 == 0x1000 accept"),
	"packet":     fmt.Sprintf(deny, "meta mark and 0x1000 == 0x1000 accept"),
}

const deny = `
table inet deny {
	chain marked {
		ct state established,related accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
		%s
	}
	chain input {
		type filter hook input priority 10; policy drop;
		jump marked
	}
	chain forward {
		type filter hook forward priority 10; policy drop;
		jump marked
	}
}
`

// TestDefaultDeny: beside another firewall that accepts what is marked and nothing
// else, doors work for those who knock, and for nobody else. When Postern's rules are
// gone, however they went, everything is shut.
func TestDefaultDeny(t *testing.T) {
	for _, b := range backends.All() {
		for by, rules := range denies {
			t.Run(b.Name()+"/"+by, func(t *testing.T) {
				s := labtest.NewScene(t, b)
				s.AddInner()
				run(t, s.Gateway, "printf '%s' '"+rules+"' | nft -f -")
				labtest.Greet(t, s.Gateway, 22, "here")
				labtest.Greet(t, s.Gateway, 80, "never")
				labtest.EchoUDP(t, s.Gate, 53)
				labtest.Greet(t, s.Inner, 8443, "inner")
				up := func() {
					t.Helper()
					s.Up(labtest.Guard + `cover: drop
admitted: {mark: 0x1000}
allow: [{service: tcp/22, from: 198.51.250.0/24}]
doors:
  here: {service: [tcp/22, udp/53], knock: {sequence: [7001, 7002]}}
  inner4: {service: tcp/443, forward: "10.0.0.2:8443", knock: {sequence: [7003, 7004]}}
  inner6: {service: tcp/444, forward: "[2001:db8:1::2]:8443", knock: {sequence: [7005, 7006]}}
`)
				}
				up()
				inner := map[labtest.Family]uint16{labtest.IPv4: 443, labtest.IPv6: 444}
				knocks := map[labtest.Family][]policy.Port{
					labtest.IPv4: {labtest.TCP(7003), labtest.TCP(7004)},
					labtest.IPv6: {labtest.TCP(7005), labtest.TCP(7006)},
				}
				here := []policy.Port{labtest.TCP(7001), labtest.TCP(7002)}
				work := func(t *testing.T, f labtest.Family) {
					src := s.NewAddress(f)
					s.Expect(t, src, labtest.TCP(22), labtest.Silence, "without knocks")
					s.Expect(t, src, labtest.UDP(53), labtest.Silence, "without knocks")
					s.Expect(t, src, labtest.TCP(80), labtest.Silence, "a port that the other firewall does not accept")
					s.Knock(src, here...)
					s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
					s.Expect(t, src, labtest.UDP(53), labtest.Received, "after the knocks")
					s.Expect(t, src, labtest.TCP(22), labtest.Silence, "a second connection")
					s.Expect(t, src, labtest.TCP(80), labtest.Silence, "another port after the knocks")
					s.Knock(labtest.On(s.Outside, f), knocks[f]...)
					c := s.Dial(t, s.Client, netip.AddrPortFrom(labtest.On(s.Gate, f), inner[f]), "inner")
					if err := c.Talk(); err != nil {
						t.Error(err)
					}
				}
				labtest.Each(t, work)
				s.Expect(t, netip.MustParseAddr("198.51.250.1"), labtest.TCP(22), labtest.Silence, "what allow takes is not marked")

				// The rules go: by another's hand, and with down.
				for name, remove := range map[string]func(){
					"flushed": func() {
						run(t, s.Gateway, `if nft delete table inet postern 2>/dev/null; then exit; fi
							for p in iptables ip6tables; do for t in filter nat; do $p -t $t -F; $p -t $t -X; done; done`)
					},
					"down": func() {
						if err := s.Gateway.Do(b.Remove); err != nil {
							t.Fatal(err)
						}
					},
				} {
					remove()
					labtest.Each(t, func(t *testing.T, f labtest.Family) {
						for _, src := range []netip.Addr{s.NewAddress(f), labtest.On(s.Outside, f)} {
							s.Knock(src, here...)
							s.Knock(src, knocks[f]...)
							for _, port := range []policy.Port{labtest.TCP(22), labtest.UDP(53), labtest.TCP(inner[f])} {
								s.Expect(t, src, port, labtest.Silence, name)
							}
						}
					})
					up()
					labtest.Each(t, work)
				}
			})
		}
	}
}

// TestBesideIptables: the same beside iptables rules that accept what is marked first of
// all. The next Apply of the iptables backend puts its own before them.
func TestBesideIptables(t *testing.T) {
	for _, b := range backends.All() {
		t.Run(b.Name(), func(t *testing.T) {
			s := labtest.NewScene(t, b)
			labtest.Greet(t, s.Gateway, 22, "here")
			const policy = labtest.Guard + "cover: drop\nadmitted: {mark: 0x1000}\ndoors: {here: {service: tcp/22, knock: {sequence: [7001, 7002]}}}\n"
			s.Up(policy)
			run(t, s.Gateway, `for p in iptables ip6tables; do
				$p -P INPUT DROP
				$p -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
				$p -I INPUT -m connmark --mark 0x1000/0x1000 -j ACCEPT
			done
			ip6tables -A INPUT -p ipv6-icmp -j ACCEPT`)
			s.Up(policy)
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				src := s.NewAddress(f)
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, "without knocks")
				s.Knock(src, labtest.TCP(7001), labtest.TCP(7002))
				s.Expect(t, src, labtest.TCP(22), labtest.SYNACK, "after the knocks")
			})
			if err := s.Gateway.Do(b.Remove); err != nil {
				t.Fatal(err)
			}
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				src := s.NewAddress(f)
				s.Knock(src, labtest.TCP(7001), labtest.TCP(7002))
				s.Expect(t, src, labtest.TCP(22), labtest.Silence, "without Postern")
			})
		})
	}
}

// TestMarkedAgain: a SYN that a door has admitted, and that is lost behind all rules,
// is marked when the client's system sends it again.
func TestMarkedAgain(t *testing.T) {
	for _, b := range backends.All() {
		t.Run(b.Name(), func(t *testing.T) {
			s := labtest.NewScene(t, b)
			run(t, s.Gateway, "printf '%s' '"+denies["packet"]+"' | nft -f -")
			labtest.Greet(t, s.Gateway, 22, "here")
			s.Up(labtest.Guard + "cover: drop\nadmitted: {mark: 0x1000}\ndoors: {here: {service: tcp/22, knock: {sequence: [7001, 7002]}}}\n")
			labtest.Each(t, func(t *testing.T, f labtest.Family) {
				src := s.NewAddress(f)
				s.Knock(src, labtest.TCP(7001), labtest.TCP(7002))
				// Its answer is lost, so that the connection is known, but not established.
				run(t, s.Gateway, "nft -f - <<'E'\ntable inet lossy { chain out { type filter hook output priority -400; tcp sport 22 drop; }; }\nE")
				syn := s.ToGateway(src, labtest.TCP(22))
				if got := s.Ask(syn); got != labtest.Silence {
					t.Errorf("the first got %s", got)
				}
				run(t, s.Gateway, "nft delete table inet lossy")
				again := labtest.Silence
				for end := time.Now().Add(20 * time.Second); again == labtest.Silence && time.Now().Before(end); {
					again = s.Ask(syn)
				}
				if again != labtest.SYNACK {
					t.Errorf("the same again got %s", again)
				}
			})
		})
	}
}

// run runs a shell command on a host.
func run(t *testing.T, h *lab.Host, command string) {
	t.Helper()
	sh := h.Command(t.Context(), "sh", "-c", command)
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
