package otherrules_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"postern/internal/automaton"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/policy"
	"postern/internal/preflight/otherrules"
)

func TestMain(m *testing.M) { lab.Main(m.Run) }

// hidden is a policy with a service of each kind: 22 and 53/udp here, 8443 sent
// on to 443 of another host.
const hidden = `
version: 1
posture: guard
doors:
  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}
  dns: {service: udp/53, address: 192.0.2.1, knock: {sequence: [47011, 5120, 31878]}}
  web: {service: tcp/8443, forward: "10.0.0.5:443", knock: {sequence: [1, 9000, 4000]}}
`

// The rules are made by the programs that people make them with, and the kernel
// is asked what they are.
func TestObstacles(t *testing.T) {
	for _, test := range []struct {
		name  string
		rules string // shell commands
		want  []string
	}{
		{"nothing", ``, nil},
		{"another knocker", `iptables -A INPUT -m recent --rcheck --seconds 10 --name OK -p tcp --dport 22 -j ACCEPT
			iptables -A INPUT -m recent ! --rcheck --seconds 10 --name BAD -p udp --dport 53 -j ACCEPT
			iptables -A INPUT -p tcp --dport 1234 -m recent --set --name OK -j DROP
			iptables -A INPUT -j DROP`,
			[]string{"drops ip filter INPUT: tcp/22"}},
		{"policy accept", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in tcp dport 80 drop`, nil},
		{"policy drop", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in ct state established,related accept
			nft add rule inet x in iifname lo accept
			nft add rule inet x in ip saddr 10.0.0.0/8 accept
			nft add rule inet x in tcp dport '{80,443}' accept`,
			[]string{"drops inet x in: tcp/22 udp/53"}},
		{"accepted by number", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in ct state vmap '{established: accept, related: accept, invalid: drop}'
			nft add rule inet x in tcp dport 22 ct state new accept
			nft add rule inet x in udp dport 53 accept`, nil},
		{"accepted in a set with ranges", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in tcp dport '{20-25, 80}' accept
			nft add rule inet x in meta l4proto '{tcp, udp}' th dport '{53, 60-70}' accept`, nil},
		{"beside a range", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in tcp dport '{10-21, 23-80}' accept
			nft add rule inet x in udp dport 50-60 accept`,
			[]string{"drops inet x in: tcp/22"}},
		{"accepted on an interface", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in iifname eth0 tcp dport 22 accept
			nft add rule inet x in ip saddr 198.51.100.0/24 udp dport 53 accept`,
			[]string{"accepts some inet x in: tcp/22 udp/53"}},
		{"accepted by a map of interfaces", `nft add table inet x
			nft add chain inet x wan
			nft add rule inet x wan tcp dport 22 accept
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in iifname vmap '{eth0: jump wan}'`,
			[]string{"accepts some inet x in: tcp/22", "drops inet x in: udp/53"}},
		{"limited", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in tcp dport 22 limit rate 3/minute accept
			nft add rule inet x in udp dport 53 counter accept`, nil},
		{"blocked addresses only", `nft add table inet x
			nft add set inet x bad '{ type ipv4_addr; }'
			nft add element inet x bad '{192.0.2.66}'
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in ip saddr @bad drop
			nft add rule inet x in tcp dport 22 ip saddr 192.0.2.67 drop
			nft add rule inet x in ct state invalid drop
			nft add rule inet x in tcp flags '& (fin|syn) == (fin|syn)' drop
			nft add rule inet x in tcp dport 22 limit rate over 3/minute drop`, nil},
		{"dropped in a chain of its own", `nft add table ip x
			nft add chain ip x sub
			nft add rule ip x sub tcp dport 21-22 reject with tcp reset
			nft 'add chain ip x in { type filter hook input priority 10; }'
			nft add rule ip x in goto sub`,
			[]string{"drops ip x in: tcp/22"}},
		{"a return saves it", `nft add table ip x
			nft add chain ip x sub
			nft add rule ip x sub tcp dport 22 return
			nft add rule ip x sub udp dport 53 return
			nft add rule ip x sub drop
			nft 'add chain ip x in { type filter hook input priority 10; }'
			nft add rule ip x in jump sub`, nil},
		{"all but an interface", `nft add table inet x
			nft 'add chain inet x in { type filter hook input priority 0; }'
			nft add rule inet x in iifname '!= lo' tcp dport 22 drop`,
			[]string{"drops inet x in: tcp/22"}},
		{"in prerouting", `nft add table inet x
			nft 'add chain inet x pre { type filter hook prerouting priority 0; }'
			nft add rule inet x pre fib daddr type local udp dport 53 drop`,
			[]string{"drops inet x pre: udp/53"}},
		{"iptables", `iptables-nft -P INPUT DROP
			iptables-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			iptables-nft -A INPUT -p tcp -m multiport --dports 80,440:450 -j ACCEPT
			iptables-nft -A INPUT -i lo -j ACCEPT`,
			[]string{"drops ip filter INPUT: tcp/22 udp/53"}},
		{"iptables with the ports", `iptables-nft -P INPUT DROP
			iptables-nft -A INPUT -p tcp -m conntrack --ctstate NEW -m multiport --dports 20:25,80 -m comment --comment x -j ACCEPT
			iptables-nft -A INPUT -p udp -m udp --dport 53 -j ACCEPT`, nil},
		{"iptables ending in reject", `iptables-nft -A INPUT -p udp -j ACCEPT
			iptables-nft -A INPUT -j REJECT`,
			[]string{"drops ip filter INPUT: tcp/22"}},
		{"ufw", `iptables-nft -P INPUT DROP
			iptables-nft -N ufw-user-input
			iptables-nft -A INPUT -j ufw-user-input
			iptables-nft -A ufw-user-input -p tcp --dport 22 -j ACCEPT`,
			[]string{"drops (ufw) ip filter INPUT: udp/53"}},
		{"docker", `iptables-nft -P FORWARD DROP
			iptables-nft -N DOCKER-USER
			iptables-nft -A FORWARD -j DOCKER-USER
			iptables-nft -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
			[]string{"drops (docker) ip filter FORWARD: tcp/443 to 10.0.0.5"}},
		{"docker told to accept", `iptables-nft -P FORWARD DROP
			iptables-nft -N DOCKER-USER
			iptables-nft -A FORWARD -j DOCKER-USER
			iptables-nft -A DOCKER-USER -p tcp -d 10.0.0.5 --dport 443 -j ACCEPT`, nil},
		{"what is diverted is accepted", `nft add table inet x
			nft 'add chain inet x fwd0 { type filter hook forward priority 0; policy drop; }'
			nft add rule inet x fwd0 ct status dnat accept`, nil},
		{"another host's port", `iptables-nft -P FORWARD DROP
			iptables-nft -A FORWARD -d 10.0.0.6 -p tcp --dport 443 -j ACCEPT`,
			[]string{"drops ip filter FORWARD: tcp/443 to 10.0.0.5"}},
		{"a redirect", `iptables-nft -t nat -A PREROUTING -p tcp --dport 22 -j REDIRECT --to-ports 2222
			nft add table inet x
			nft 'add chain inet x pre { type nat hook prerouting priority -110; }'
			nft add rule inet x pre tcp dport 8443 dnat ip to 10.0.0.9`,
			[]string{"diverts inet x pre: tcp/8443", "diverts ip nat PREROUTING: tcp/22"}},
		{"a later redirect of what we divert", `iptables-nft -t nat -A PREROUTING -p tcp --dport 8443 -j REDIRECT --to-ports 1`, nil},
		{"a published container port", `iptables-nft -t nat -N DOCKER
			iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
			iptables-nft -t nat -A DOCKER -p tcp -m tcp --dport 22 -j DNAT --to-destination 172.17.0.2:2222`,
			[]string{"diverts (docker) ip nat PREROUTING: tcp/22"}},
		{"the same, but for the containers themselves", `iptables-nft -t nat -N DOCKER
			iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
			iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
			iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 22 -j DNAT --to-destination 172.17.0.2:2222`,
			[]string{"may divert (docker) ip nat PREROUTING: tcp/22"}},
		{"docker's own nftables", `nft add table ip docker-bridges
			nft add chain ip docker-bridges published
			nft add rule ip docker-bridges published iifname != docker0 tcp dport 22 dnat to 172.17.0.2:2222
			nft 'add chain ip docker-bridges pre { type nat hook prerouting priority dstnat; }'
			nft add rule ip docker-bridges pre fib daddr type local jump published`,
			[]string{"may divert (docker) ip docker-bridges pre: tcp/22"}},
		{"for other addresses than ours", `iptables-nft -t nat -A PREROUTING -p tcp --dport 22 -m addrtype ! --dst-type LOCAL -j DNAT --to-destination 10.0.0.9
			iptables-nft -t nat -A PREROUTING -p tcp --dport 22 -m addrtype --src-type LOCAL -j DNAT --to-destination 10.0.0.9
			iptables-nft -t nat -A PREROUTING -p tcp --dport 22 -m addrtype --src-type UNICAST --dst-type MULTICAST -j DNAT --to-destination 10.0.0.9`, nil},
		{"no tracking", `nft add table inet x
			nft 'add chain inet x raw { type filter hook prerouting priority raw; }'
			nft add rule inet x raw udp dport 53 notrack`,
			[]string{"untracks inet x raw: udp/53"}},
		{"IPv6 alone", `ip6tables-nft -P INPUT DROP`,
			[]string{"drops ip6 filter INPUT: tcp/22"}}, // udp/53 is on an IPv4 address
		{"legacy", `iptables-legacy -P INPUT DROP
			ip6tables-legacy -P FORWARD DROP`,
			[]string{"drops unread iptables-legacy filter INPUT: tcp/22 udp/53"}},
		{"legacy, forwarding", `iptables-legacy -P FORWARD DROP
			ip6tables-legacy -P INPUT DROP`,
			[]string{"drops unread iptables-legacy filter FORWARD: tcp/443 to 10.0.0.5",
				"drops unread ip6tables-legacy filter INPUT: tcp/22"}},
		{"legacy, open", `iptables-legacy -A INPUT -p tcp --dport 80 -j DROP`, nil},
		{"ourselves", `nft add table inet postern
			nft 'add chain inet postern in { type filter hook input priority 0; policy drop; }'`, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			host := ruled(t, test.rules)
			var got []string
			err := host.Do(func() error {
				rules, err := otherrules.Read()
				if err != nil {
					return err
				}
				for _, o := range rules.Obstacles(machine(t, hidden), nftables.Backend{}) {
					got = append(got, text(o))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestAcceptsSome: a port that others let in from some senders only is an obstacle
// to those who may knock and are none of these.
func TestAcceptsSome(t *testing.T) {
	const (
		anyone = "version: 1\nposture: guard\ndoors:\n  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}\n"
		lan    = "version: 1\nposture: guard\ndoors:\n  ssh: {service: tcp/22, from: [192.168.50.0/24], knock: {sequence: [47011, 5120, 31877]}}\n"
		wider  = "version: 1\nposture: guard\ndoors:\n  ssh: {service: tcp/22, from: [192.168.0.0/16], knock: {sequence: [47011, 5120, 31877]}}\n"
		onWAN  = "version: 1\nposture: guard\ninterfaces: [wan0]\ndoors:\n  ssh: {service: tcp/22, knock: {sequence: [47011, 5120, 31877]}}\n"
		drop   = `iptables-nft -P INPUT DROP
			iptables-nft -A INPUT -i lo -j ACCEPT
			iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
			`
		nft = `nft add table inet x
			nft add chain inet x sub
			nft 'add chain inet x in { type filter hook input priority 0; policy drop; }'
			nft add rule inet x in iif lo accept
			`
		nftOpen = `nft add table inet x
			nft add chain inet x sub
			nft 'add chain inet x in { type filter hook input priority 0; }'
			`
		some, drops = "accepts some ip filter INPUT: tcp/22", "drops ip filter INPUT: tcp/22"
	)
	for _, test := range []struct{ name, policy, rules, want string }{
		{"a network", anyone, drop + `iptables-nft -A INPUT -s 192.168.50.0/24 -p tcp --dport 22 -j ACCEPT`, some + " from 192.168.50.0/24"},
		{"a network that no byte ends", anyone, drop + `iptables-nft -A INPUT -s 172.16.0.0/12 -p tcp --dport 22 -j ACCEPT`, some + " from 172.16.0.0/12"},
		{"an interface", anyone, drop + `iptables-nft -A INPUT -i wg0 -p tcp --dport 22 -j ACCEPT`, some + " on wg0"},
		{"interfaces that begin alike", anyone, drop + `iptables-nft -A INPUT -i wg+ -p tcp --dport 22 -j ACCEPT`, some + " on wg*"},
		{"in a chain", anyone, drop + `iptables-nft -N LAN
			iptables-nft -A INPUT -s 192.168.50.0/24 -j LAN
			iptables-nft -A LAN -p tcp --dport 22 -j ACCEPT`, some + " from 192.168.50.0/24"},
		{"a chain that others leave", anyone, drop + `iptables-nft -N LAN
			iptables-nft -A INPUT -j LAN
			iptables-nft -A LAN ! -s 192.168.50.0/24 -j RETURN
			iptables-nft -A LAN -p tcp --dport 22 -j ACCEPT`, some + " from 192.168.50.0/24"},
		{"all others are dropped", anyone, `iptables-nft -A INPUT ! -s 192.168.50.0/24 -p tcp --dport 22 -j DROP`, some + " from 192.168.50.0/24"},
		{"all others are rejected", anyone, `iptables-nft -A INPUT ! -i wg0 -p tcp --dport 22 -j REJECT`, some + " on wg0"},
		{"a range of addresses", anyone, drop + `iptables-nft -A INPUT -p tcp --dport 22 -m iprange --src-range 10.0.0.5-10.0.0.9 -j ACCEPT`, some + " from 10.0.0.5-10.0.0.9"},
		{"all but a range", anyone, drop + `iptables-nft -A INPUT -p tcp --dport 22 -m iprange ! --src-range 10.0.0.5-10.0.0.9 -j ACCEPT`, ""},
		{"nft, an interface", anyone, nft + `nft add rule inet x in iifname wg0 tcp dport 22 accept`, "accepts some inet x in: tcp/22 on wg0"},
		{"nft, a set of networks", anyone, nft + `nft add rule inet x in ip saddr '{10.0.0.0/8, 192.168.0.0/16}' tcp dport 22 accept`,
			"accepts some inet x in: tcp/22 from 10.0.0.0/8, 192.168.0.0/16"},
		{"nft, all other interfaces are dropped", anyone, nftOpen + `nft add rule inet x in iifname != '{wg0, wg1}' tcp dport 22 drop`,
			"accepts some inet x in: tcp/22 on wg0, wg1"},
		{"nft, a map of networks", anyone, nft + `nft add rule inet x sub tcp dport 22 accept
			nft add rule inet x in ip saddr vmap '{10.0.0.1: jump sub}'`, "accepts some inet x in: tcp/22 from 10.0.0.1"},
		{"nft, IPv6 as it likes", anyone, nft + `nft add rule inet x in ip6 saddr fd00::/8 tcp dport 22 accept
			nft add rule inet x in meta nfproto ipv4 tcp dport 22 accept`, "accepts some inet x in: tcp/22 from fd00::/8"},
		{"both", anyone, drop + `iptables-nft -N LAN
			iptables-nft -A INPUT -s 192.168.50.0/24 -j LAN
			iptables-nft -A LAN -i lan0 -p tcp --dport 22 -j ACCEPT
			iptables-nft -A INPUT -s 10.0.0.7 -p tcp --dport 22 -j ACCEPT`, some + " from 192.168.50.0/24 on lan0; from 10.0.0.7"},
		{"a hardware address", anyone, drop + `iptables-nft -A INPUT -m mac --mac-source 02:00:00:00:00:07 -p tcp --dport 22 -j ACCEPT`,
			some + " from 02:00:00:00:00:07"},
		{"nft, a named set", anyone, nft + `nft add set inet x office '{ type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.0/8, 13.0.0.0/8, 15.0.0.5-15.0.0.9 }; }'
			nft add rule inet x in ip saddr @office tcp dport 22 accept`, "accepts some inet x in: tcp/22 from those in set office"},
		{"nft, a range in a set", anyone, nft + `nft add rule inet x in ip saddr '{10.0.0.5-10.0.0.9, 10.1.0.1}' tcp dport 22 accept`,
			"accepts some inet x in: tcp/22 from 10.0.0.5-10.0.0.9, 10.1.0.1"},
		{"nft, a map of interfaces", anyone, nft + `nft add rule inet x sub tcp dport 22 accept
			nft add rule inet x in iifname vmap '{lan0: jump sub}'`, "accepts some inet x in: tcp/22 on lan0"},

		// It is the wanted firewall, or none of this kind.
		{"everyone but some", anyone, drop + `iptables-nft -A INPUT ! -s 192.0.2.66 -p tcp --dport 22 -j ACCEPT`, ""},
		{"some are dropped", anyone, drop + `iptables-nft -A INPUT -s 192.0.2.0/24 -j DROP
			iptables-nft -A INPUT -i eth9 -p tcp --dport 22 -j DROP
			iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT`, ""},
		{"as fast as they may", anyone, drop + `iptables-nft -A INPUT -p tcp --dport 22 -m limit --limit 3/min -j ACCEPT`, ""},
		{"a network too fast", anyone, `iptables-nft -A INPUT ! -s 10.0.0.0/8 -p tcp --dport 22 -m limit --limit 3/min -j DROP`, ""},
		{"a spoofed address", anyone, `iptables-nft -A INPUT ! -i lan0 -s 192.168.0.0/16 -j DROP`, ""},
		{"some, then everyone", anyone, drop + `iptables-nft -A INPUT -i wg0 -p tcp --dport 22 -j ACCEPT
			iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT`, ""},
		{"another port", anyone, drop + `iptables-nft -A INPUT -i wg0 -p tcp --dport 443 -j ACCEPT`, drops},

		// The policy's own limits.
		{"those who may knock", lan, drop + `iptables-nft -A INPUT -s 192.168.50.0/24 -p tcp --dport 22 -j ACCEPT`, ""},
		{"more than may knock", lan, drop + `iptables-nft -A INPUT -s 192.168.0.0/16 -p tcp --dport 22 -j ACCEPT`, ""},
		{"some who may knock", wider, drop + `iptables-nft -A INPUT -s 192.168.0.0/24 -p tcp --dport 22 -j ACCEPT`, some},
		{"none who may knock", lan, drop + `iptables-nft -A INPUT -s 10.0.0.0/8 -p tcp --dport 22 -j ACCEPT`, drops},
		{"on its interface", onWAN, drop + `iptables-nft -A INPUT -i wan0 -p tcp --dport 22 -j ACCEPT`, ""},
		{"on another interface", onWAN, drop + `iptables-nft -A INPUT -i lan0 -p tcp --dport 22 -j ACCEPT`, drops},
		{"all other interfaces", onWAN, `iptables-nft -A INPUT ! -i wan0 -j DROP`, ""},
		{"nobody knocks over IPv6", lan, `ip6tables-nft -P INPUT DROP`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			if err := ruled(t, test.rules).Do(func() error {
				rules, err := otherrules.Read()
				if err != nil {
					return err
				}
				for _, o := range rules.Obstacles(machine(t, test.policy), nftables.Backend{}) {
					got = append(got, strings.TrimSpace(text(o)+" "+strings.Join(o.Senders, "; ")))
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(got, "; "); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// ruled returns a host on which commands of the shell have made rules.
func ruled(t *testing.T, rules string) *lab.Host {
	t.Helper()
	host := lab.NewT(t).Host("server")
	rule(t, host, rules)
	return host
}

// rule makes rules on a host by commands of the shell.
func rule(t *testing.T, host *lab.Host, rules string) {
	t.Helper()
	sh := host.Command(t.Context(), "sh", "-ec", rules)
	sh.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin",
		"XTABLES_LOCKFILE="+filepath.Join(t.TempDir(), "lock")) // the usual one is root's
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func machine(t *testing.T, text string) *automaton.Machine {
	t.Helper()
	p, err := policy.Parse("policy.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	m, err := automaton.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func text(o otherrules.Obstacle) string {
	s := []string{"drops", "drops unread", "accepts some", "diverts", "may divert", "untracks"}[o.Kind]
	if o.Manager != "" {
		s += " (" + o.Manager + ")"
	}
	s += fmt.Sprintf(" %s %s:", o.Table, o.Chain)
	for _, p := range o.Ports {
		s += " " + p.String()
	}
	if o.To.IsValid() {
		s += " to " + o.To.String()
	}
	return s
}
