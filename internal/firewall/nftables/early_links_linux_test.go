package nftables

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall/conformance"
	"postern/internal/key"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

var everyLink = flag.Bool("every-link", false, "fail where this kernel lacks a kind of interface, in place of skipping it")

// A linkKind is a kind of interface by which packets come to the gateway.
type linkKind struct {
	name string

	// What makes it of two cables, in ip's words: at the gateway, whose ends are called g0
	// and g1, and at the client, with c0 and c1.
	gateway, client string
	top, peer       string // the interfaces with addresses; the client's is c0 if empty

	filter bool     // bridges show their packets to the rules (br_netfilter)
	not    []string // the interfaces where nothing is counted early
	rules  bool     // few packets are dropped early: see below
	vrf    string   // by which alone the addresses are reached; nothing is dropped early
}

const (
	bond    = "link add bond0 type bond mode active-backup miimon 100\nlink set g0 down\nlink set g1 down\nlink set g0 master bond0\nlink set g1 master bond0\nlink set bond0 up\n"
	hub     = "link add br0 type bridge mcast_snooping 0\nlink set c0 master br0\nlink set c1 master br0\nlink set br0 up\n"
	bridge  = "link add br0 type bridge mcast_snooping 0\nlink set g0 master br0\nlink set br0 up\n"
	vrf     = "link add vrf0 type vrf table 10\nlink set vrf0 up\n"
	vlan7   = " type vlan id 7\n"
	macvlan = " type macvlan mode bridge\n"
)

var linkKinds = []linkKind{
	{name: "cable", top: "g0"},
	{name: "VLAN", gateway: "link add link g0 name g0.7" + vlan7, top: "g0.7",
		client: "link add link c0 name c0.7" + vlan7, peer: "c0.7"},
	{name: "bond", gateway: bond, client: hub, top: "bond0", peer: "br0", not: []string{"g0", "g1"}},
	{name: "bond behind a hub", gateway: bond, client: hub + "link set c0 type bridge_slave learning off\nlink set c1 type bridge_slave learning off\n",
		top: "bond0", peer: "br0", not: []string{"g0", "g1"}},
	{name: "VLAN on a bond", gateway: bond + "link add link bond0 name bond0.7" + vlan7, top: "bond0.7",
		client: hub + "link add link br0 name br0.7" + vlan7, peer: "br0.7", not: []string{"g0", "g1"}},
	{name: "bridge", gateway: bridge, top: "br0"},
	{name: "bridge with br_netfilter", gateway: bridge, filter: true, top: "br0"},
	// Where the interface below has another address of the link layer, the program takes a SYN
	// there for one that only the rules may judge, and its source for one that may have made
	// progress. So it leaves nearly everything to the rules.
	{name: "bridge with an address of its own", gateway: bridge + "link set br0 address 02:00:00:00:00:77\n", top: "br0", rules: true},
	{name: "bridge with both", gateway: bridge + "link set br0 address 02:00:00:00:00:77\n", filter: true, top: "br0", rules: true},
	{name: "macvlan", gateway: "link add link g0 name mac0" + macvlan, top: "mac0", rules: true},
	{name: "macvlan on a VLAN", gateway: "link add link g0 name g0.7" + vlan7 + "link set g0.7 up\nlink add link g0.7 name mac0" + macvlan, top: "mac0", rules: true,
		client: "link add link c0 name c0.7" + vlan7, peer: "c0.7"},
	{name: "macvlan on a bond", gateway: bond + "link add link bond0 name mac0" + macvlan, client: hub, top: "mac0", rules: true, peer: "br0",
		not: []string{"g0", "g1"}},
	{name: "ipvlan", gateway: "link add link g0 name ip0 type ipvlan mode l2\n", top: "ip0"},
	{name: "ipvlan on a bond", gateway: bond + "link add link bond0 name ip0 type ipvlan mode l2\n", client: hub, top: "ip0", peer: "br0",
		not: []string{"g0", "g1"}},
	// Of a VRF nothing is counted: its addresses are not the host's. That holds for what is
	// below its ports, too.
	{name: "VRF", gateway: vrf + "link set g0 master vrf0\n", top: "g0", vrf: "vrf0", not: []string{"g0", "vrf0"}},
	{name: "VLAN in a VRF", gateway: vrf + "link add link g0 name g0.7" + vlan7 + "link set g0.7 master vrf0\n", top: "g0.7", vrf: "vrf0",
		client: "link add link c0 name c0.7" + vlan7, peer: "c0.7", not: []string{"g0.7", "vrf0"}},
	{name: "bond in a VRF", gateway: vrf + bond + "link set bond0 master vrf0\n", client: hub, top: "bond0", peer: "br0", vrf: "vrf0",
		not: []string{"g0", "g1", "bond0", "vrf0"}},
	{name: "bridge in a VRF", gateway: vrf + bridge + "link set br0 master vrf0\n", top: "br0", vrf: "vrf0", not: []string{"g0", "br0", "vrf0"}},
	{name: "WireGuard", gateway: "link add wg0 type wireguard\n", client: "link add wg0 type wireguard\n", top: "wg0", peer: "wg0"},
}

// A linkRun is what came of the packets of the script.
type linkRun struct {
	came           []string
	sent, seen, in int // packets of floods, and knocks: sent, seen by the rules, and let in
	dropped        int // early
}

const linkPolicy = labtest.Closed + `allow: [{service: tcp/443}, {service: udp/443}, {service: icmp/echo}, {service: udp/51820}]
keys: {port: udp/40123}
users: {alice: {devices: [laptop]}}
doors: {ssh: {service: tcp/22, knock: {sequence: [1234, 2345, 3456], step_timeout: 100ms, key: [alice]}, open_for: 1h, admit: any}}
`

// script sends all packets, after the policy was loaded, and returns what comes of them. times
// are those of tokens.
func (s *linkScene) script(ring automaton.Keyring, times *labtest.Times) (r linkRun) {
	s.Helper()
	s.must(s.gateway, fmt.Sprintf(`table inet watch {
		counter seen {}
		counter in {}
		chain first { type filter hook prerouting priority -500; iifname != { lo, vrf0 } meta l4proto { tcp, udp } th dport { 1234, 2345, 3456, %[1]d-%[2]d } counter name seen; }
		chain last { type filter hook input priority 500; iifname != lo meta l4proto { tcp, udp } th dport { 1234, 2345, 3456, %[1]d-%[2]d } counter name in; }
	}`, floodFrom, floodTo), "nft", "-f", "-")
	defer s.must(s.gateway, "", "nft", "delete table inet watch")
	for _, f := range labtest.Families {
		say := func(what, came, want string) {
			s.Helper()
			r.came = append(r.came, fmt.Sprintf("%v: %s: %s", f, what, came))
			if came != want && !s.shut {
				s.Errorf("%v: %s: %s, want %s", f, what, came, want)
			}
		}
		knock := func(from netip.Addr) {
			var all []*packet.Packet // at once, or a busy machine is too late for the next step
			for _, port := range []uint16{1234, 2345, 3456} {
				all = append(all, s.packet(from, labtest.TCP(port), nil))
			}
			s.send(all...)
			r.sent += len(all)
		}
		all := s.begin(f)
		tryAll := func(when string) {
			for _, o := range all {
				say(o.what+" "+when, o.try(), "answered")
			}
		}
		tryAll("before")

		stranger, friend, attacker := s.newSource(f), s.newSource(f), s.newSource(f)
		say("without knocks", s.connect(stranger, hiddenPort), "silence")
		knock(friend)
		say("after knocks", s.connect(friend, hiddenPort), "connected")
		for _, by := range labtest.Envelopes {
			holder := s.newSource(f)
			token := labtest.Credential(ring, "alice/laptop", "ssh").Token(times.Next(), netip.Addr{}, key.Lane4)
			s.send(s.packet(holder, by, token[:]))
			say(fmt.Sprintf("after a token by %v", by), s.connect(holder, hiddenPort), "connected")
		}

		// Another source floods.
		r.sent += s.flood(attacker, 8)
		knocker := s.newSource(f)
		for range 4 {
			tryAll("beside a flood")
			r.sent += s.flood(attacker, 4)
		}
		knock(knocker)
		say("after knocks beside a flood", s.connect(knocker, hiddenPort), "connected")
		r.sent += s.flood(attacker, 4) // its budget may have grown meanwhile
		knock(attacker)
		say("after knocks of who floods", s.connect(attacker, hiddenPort), "silence")
		say("who has knocked before", s.connect(friend, hiddenPort), "connected")

		// Those flood who are known.
		for _, from := range []netip.Addr{s.address[f], friend} {
			r.sent += s.flood(from, 8)
		}
		tryAll("after a flood of the same source")
		say("who has a grant, after a flood", s.connect(friend, hiddenPort), "connected")
		token := labtest.Credential(ring, "alice/laptop", "ssh").Token(times.Next(), netip.Addr{}, key.Lane4)
		s.send(s.packet(attacker, labtest.TokenPort, token[:]))
		say("after a token of who floods", s.connect(attacker, hiddenPort), "connected")
		time.Sleep(2500 * time.Millisecond) // the budget is whole again
		knock(s.address[f])
		say("after knocks of who has flooded", s.connect(s.address[f], hiddenPort), "connected")
	}
	s.settle()
	status := labtest.Inspect(s, s.gateway, Backend{})
	if status.Early != nil {
		r.dropped = int(status.Early.Packets)
	}
	r.seen, r.in = s.count("seen"), s.count("in")
	return r
}

// play has the script run with a policy that is loaded before the interfaces are there, and then
// has them change.
func (k linkKind) play(t *testing.T, early bool) (r linkRun) {
	s := newLinkScene(t, k)
	text := linkPolicy + fmt.Sprintf("early_drop: %v\n", early)
	m := labtest.Compile(t, Backend{}, text)
	ring := labtest.Keys(m)
	labtest.Apply(t, s.gateway, Backend{}, m)
	keeper := keeper(t, s.gateway)
	s.look(keeper, m)
	s.lay()
	s.look(keeper, m)
	s.attached("laid", early)
	s.await()
	s.serve(s.gateway, ownPort)
	s.serve(s.gateway, hiddenPort)
	s.serve(s.client, ownPort)
	s.serve(s.client, 53)
	times := labtest.NewTimes()
	time.Sleep(300 * time.Millisecond) // nobody knows before what sources have done
	r = s.script(ring, times)

	// It is called otherwise, goes, and comes again.
	rename := func(from, to string) {
		s.must(s.gateway, fmt.Sprintf("link set %[1]s down\nlink set %[1]s name %[2]s\n", from, to), "ip", "-batch", "-")
	}
	rename(s.top, "wan")
	if i := slices.Index(s.not, s.top); i >= 0 {
		s.not = slices.Clone(s.not)
		s.not[i] = "wan"
	}
	s.look(keeper, m)
	s.attached("renamed", early)
	s.not = k.not
	rename("wan", s.top)
	s.up()
	s.look(keeper, m)
	s.attached("renamed back", early)
	if s.top != "g0" {
		s.must(s.gateway, "", "ip", "link", "del", s.top)
		s.not = slices.DeleteFunc(slices.Clone(k.not), func(name string) bool { // ports no more
			return (s.top == "bond0" || s.top == "br0") && (name == "g0" || name == "g1")
		})
		s.look(keeper, m)
		s.attached("it is gone", early)
	}

	down(t, s.gateway)
	if left := s.must(s.gateway, "", "tc", "qdisc", "show"); strings.Contains(left, "clsact") {
		t.Errorf("what it was attached by is left: %s", left)
	}
	return r
}

// TestEarlyLinks: by whatever kind of interface packets come, the same becomes of them with and
// without early drop, and tokens open doors. What is dropped early is of floods alone, which the
// rules let in nothing of. The program is where interfaces are, however they come and go.
func TestEarlyLinks(t *testing.T) {
	conformance.NeedBPF(t)
	for _, k := range linkKinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			without, with := k.play(t, false), k.play(t, true)
			t.Logf("%d packets of %d were dropped early; %d things were tried", with.dropped, with.sent, len(with.came))
			for i, came := range with.came {
				if came != without.came[i] {
					t.Errorf("with early drop: %s; without: %s", came, without.came[i])
				}
			}
			for _, r := range []linkRun{without, with} {
				if r.in > 0 {
					t.Errorf("%d packets of floods, or knocks, were let in", r.in)
				}
				if got := r.seen + r.dropped; got != r.sent {
					t.Errorf("%d packets were seen by the rules, and %d dropped early; %d were sent", r.seen, r.dropped, r.sent)
				}
			}
			if few := k.rules || k.vrf != ""; few && with.dropped > with.sent/20 || !few && with.dropped < with.sent/2 {
				t.Errorf("%d packets of %d were dropped early", with.dropped, with.sent)
			}
		})
	}
}
