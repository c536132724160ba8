//go:build linux

package stealth

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"postern/internal/automaton"
	"postern/internal/firewall"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/bpf"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
	"postern/internal/policy"
)

func TestMain(m *testing.M) {
	lab.Main(func() int {
		// Short scans wait more than they work: more of them at once than CPUs.
		flag.Parse()
		if !*allPorts {
			flag.Set("test.parallel", "8")
		}
		return m.Run()
	})
}

// A cover is a posture and what it answers to those who have not knocked.
type cover struct {
	posture policy.Posture
	answer  policy.Cover
	backend firewall.Backend
}

func (c cover) String() string {
	name := string(c.posture) + "-" + string(c.answer)
	if c.backend != backends.Default() {
		name += "-by-" + c.backend.Name()
	}
	return name
}

// covers has every cover by every backend, in closed; but "unreachable", which looks
// to a scan like "reset" over UDP, by the default one alone.
var covers = func() (all []cover) {
	for _, b := range backends.All() {
		for _, answer := range policy.Covers() {
			if answer != policy.CoverUnreachable || b == backends.Default() {
				all = append(all, cover{policy.Closed, answer, b})
			}
		}
		all = append(all, cover{policy.Guard, policy.Guard.DefaultCover(), b})
	}
	return all
}()

// The doors have long sequences, so that a scan in random order does not open
// one, and long times, so that a grant lasts as long as the
// scans do.
const doors = `version: 1
posture: %s
cover: %s
log: {target: none}
doors:
  ssh:
    service: tcp/22
    knock: {sequence: [7001, 7002, 7003], step_timeout: 1h}
    open_for: 1h
  dns:
    service: udp/5353
    knock: {sequence: [udp/7101, udp/7102, udp/7103], step_timeout: 1h}
    open_for: 1h
  web:
    service: tcp/8443
    knock: {sequence: [7201, 7202, 7203], step_timeout: 1h}
    open_for: 1h
    forward: 192.168.9.2:443
  sync:
    service: udp/5354
    knock: {sequence: [7301, udp/7302, 7303], step_timeout: 1h}
    open_for: 1h
    admit: any
    forward: 192.168.9.2:5354
  local:
    service: tcp/8080
    address: 192.0.2.2
    knock: {sequence: [7401, 7402, 7403], step_timeout: 1h}
    open_for: 1h
  local6:
    service: tcp/8081
    address: 2001:db8:1::2
    knock: {sequence: [7501, 7502, 7503], step_timeout: 1h}
    open_for: 1h
  dns6:
    service: udp/8082
    address: 2001:db8:1::2
    knock: {sequence: [7601, 7602, 7603], step_timeout: 1h}
    open_for: 1h
`

// keyed adds what is opened by a key, where a backend verifies any.
func keyed(doors string) string {
	return strings.Replace(doors, "doors:\n", "keys: {port: udp/7700}\nusers: {alice: {devices: [laptop]}}\ndoors:\n"+
		"  keyed: {service: tcp/7799, knock: {key: [alice]}}\n", 1)
}

// keys are those of the device.
var keys = automaton.Keyring{Site: key.NewSite(), Devices: map[string]automaton.DeviceKey{
	"alice/laptop": {ID: key.NewDevice(), Secret: key.NewSecret()},
}}

// rightToken returns a token that was not made before.
func rightToken() []byte {
	tokenTime.Lock()
	defer tokenTime.Unlock()
	// As new as it may be: those from before the rules are refused.
	tokenTime.last = tokenTime.last.Add(1)
	if newest := time.Now().Add(key.DefaultWindow.Ahead); newest.After(tokenTime.last) {
		tokenTime.last = newest
	}
	d := keys.Devices["alice/laptop"]
	c := key.Credential{Site: keys.Site, Device: d.ID, Door: key.DoorID("keyed"), Secret: d.Secret}
	token := c.Token(tokenTime.last, netip.Addr{}, key.Lane4)
	return token[:]
}

var tokenTime struct {
	sync.Mutex
	last time.Time
}

// A site is what a host is like, beside its rules.
type site struct {
	forwards bool
	rpFilter int  // the kernel's check of sources: 0 none, 1 strict, 2 loose (RFC 3704)
	several  bool // addresses on a link
	segments bool // it follows segment routing headers (RFC 8754)
}

func (s site) String() string {
	name := fmt.Sprintf("rp_filter-%d", s.rpFilter)
	for _, p := range []struct {
		has  bool
		name string
	}{{s.forwards, "-router"}, {s.several, "-addresses"}, {s.segments, "-segments"}} {
		if p.has {
			name += p.name
		}
	}
	return name
}

// usual is a gateway with an address for each link, whose kernel checks no sources.
var usual = site{forwards: true}

// sites are hosts of all kinds. Two are enough for `make test`, which between them have
// everything.
var sites = func() (all []site) {
	for _, forwards := range []bool{true, false} {
		for rpFilter := range 3 {
			for _, several := range []bool{true, false} {
				all = append(all, site{forwards, rpFilter, several, several})
			}
		}
	}
	return all
}()

func sitesOf(c cover) []site {
	if *allPorts {
		return sites
	}
	return []site{{forwards: true, rpFilter: 1, several: true, segments: true}, {rpFilter: 2}}
}

// build connects a host to two others and makes it what the site says. It returns the
// ends at those.
func (s site) build(l *lab.Lab, h, scanner, friend *lab.Host) (fromScanner, fromFriend *lab.Link) {
	fromScanner, gate := l.Connect(scanner, h, "192.0.2.0/24", "2001:db8:1::/64", "fe80::1/64")
	fromFriend, beside := l.Connect(friend, h, "198.51.100.0/24", "2001:db8:2::/64", "fe80::1/64")
	if s.several {
		gate.AddAddress("192.0.2.77/24", "198.18.7.2/24", "198.18.8.8/32",
			"2001:db8:1::77/64", "2001:db8:7::2/64", "2001:db8:8::8/128")
	}
	fromScanner.StaticNeighbours()
	fromFriend.StaticNeighbours()
	h.Route("198.18.1.0/24", fromScanner.Addr4())
	h.Route("198.18.2.0/24", fromFriend.Addr4())
	h.Route("2001:db8:f1::/64", fromScanner.Addr6())
	h.Route("2001:db8:f2::/64", fromFriend.Addr6())
	// The kernel answers at most so many probes a second with ICMP: which
	// ports get an answer would be chance, with rules and without.
	for _, h := range []*lab.Host{h, friend} {
		h.Sysctl("net.ipv4.icmp_ratemask", "0")
		h.Sysctl("net.ipv6.icmp.ratemask", "\n")
	}
	// It sends them by one socket for each processor, which all hosts share. Answers to
	// an address that nobody has wait for their neighbour and belong to that socket: 200 KB
	// of them use up its buffer, and then no host sends one (seen on 6.18).
	for _, end := range []*lab.Link{gate, beside} {
		h.Sysctl("net.ipv4.neigh."+end.Name+".unres_qlen_bytes", "0")
		h.Sysctl("net.ipv6.neigh."+end.Name+".unres_qlen_bytes", "0")
	}
	for _, name := range []string{"all", gate.Name} {
		h.Sysctl("net.ipv4.conf."+name+".send_redirects", "0")
		h.Sysctl("net.ipv4.conf."+name+".rp_filter", fmt.Sprint(s.rpFilter))
		if s.segments {
			h.Sysctl("net.ipv6.conf."+name+".seg6_enabled", "1")
		}
	}
	if s.forwards {
		h.Sysctl("net.ipv4.ip_forward", "1")
		h.Sysctl("net.ipv6.conf.all.forwarding", "1")
	}
	return fromScanner, fromFriend
}

// The ports that the policy names. Behind each service something listens.
var (
	specialTCP = []uint16{22, 8443, 8080, 7001, 7002, 7003, 7201, 7202, 7203, 7301, 7303, 7401, 7402, 7403, 8081, 7501, 7502, 7503, 7601, 7602, 7603, 7700}
	specialUDP = []uint16{5353, 5354, 7101, 7102, 7103, 7302, 8082, 7700}
)

// A network is a host with hidden services, one who looks, one who knocks, and a
// host without rules to compare with.
type network struct {
	*lab.Lab
	scanner, friend, gw, inner, bare *lab.Host

	fromScanner, fromFriend *lab.Link // the ends at those who send
	toBare, besideBare      *lab.Link // the same, of the host without rules
	site                    site
	machine                 *automaton.Machine
	backend                 firewall.Backend
	senders                 map[senderOf]*lab.Sender
	sourcePort              uint16
}

func newNetwork(t *testing.T, c cover, at site) *network {
	t.Helper()
	n := &network{Lab: lab.NewT(t), backend: c.backend, site: at, senders: map[senderOf]*lab.Sender{}, sourcePort: 10000}
	text := fmt.Sprintf(doors, c.posture, c.answer)
	if bpf.Probe() == nil {
		text = keyed(text)
	}
	n.machine = labtest.Compile(t, n.backend, text)
	n.machine.Keys = func() (automaton.Keyring, error) { return keys, nil }
	n.scanner, n.friend, n.gw, n.inner = n.Host("scanner"), n.Host("friend"), n.Host("gw"), n.Host("inner")
	n.fromScanner, n.fromFriend = at.build(n.Lab, n.gw, n.scanner, n.friend)
	n.Connect(n.gw, n.inner, "192.168.9.0/24")
	n.friend.Route("192.0.2.0/24", n.fromFriend.Peer.Addr4())
	n.inner.Route("198.51.100.0/24", netip.MustParseAddr("192.168.9.1"))

	n.serve(t, n.gw, "tcp", ":22")
	n.serve(t, n.gw, "udp", ":5353")
	n.serve(t, n.gw, "tcp", "192.0.2.2:8080")
	n.serve(t, n.gw, "tcp", "[2001:db8:1::2]:8081")
	n.serve(t, n.gw, "udp", "[2001:db8:1::2]:8082")
	n.serve(t, n.inner, "tcp", ":443")
	n.serve(t, n.inner, "udp", ":5354")
	labtest.Apply(t, n.gw, n.backend, n.machine)
	// A connection of UDP is to be remembered for as long as the scans take, too.
	n.gw.Sysctl("net.netfilter.nf_conntrack_udp_timeout", "3600")
	n.gw.Sysctl("net.netfilter.nf_conntrack_udp_timeout_stream", "3600")
	return n
}

// addBare adds the same host without rules, and with nothing on its ports.
func (n *network) addBare() {
	n.bare = n.Host("bare")
	other := n.Host("other")
	n.toBare, n.besideBare = n.site.build(n.Lab, n.bare, n.Host("stranger"), other)
	other.Route("192.0.2.0/24", n.besideBare.Peer.Addr4())
}

const banner = "it is me\n"

// serve runs a service that says its banner.
func (n *network) serve(t *testing.T, h *lab.Host, protocol, address string) {
	t.Helper()
	if protocol == "udp" {
		labtest.ServeUDP(t, h, address, func([]byte) []byte { return []byte(banner) })
		return
	}
	labtest.Serve(t, h, protocol, address, func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, banner); err != nil {
				return
			}
			if _, err := conn.Read(make([]byte, 1500)); err != nil {
				return
			}
		}
	})
}

// A way is a link in one of the IP versions.
type way struct {
	link     *lab.Link
	src, dst netip.Addr
}

// ways returns a link's two: IPv4, IPv6.
func ways(k *lab.Link) []way {
	return []way{{k, k.Addr4(), k.Peer.Addr4()}, {k, k.Addr6(), k.Peer.Addr6()}}
}

func (w way) family() string {
	if w.src.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// A senderOf is a link, and whether frames are to everyone on it.
type senderOf struct {
	link      *lab.Link
	broadcast bool
}

// send puts packets on a link as they are, and waits until they and their
// answers have arrived.
func (n *network) send(t *testing.T, by senderOf, packets ...*packet.Packet) {
	t.Helper()
	s := n.senders[by]
	if s == nil {
		var err error
		if by.broadcast {
			s, err = by.link.BroadcastSender()
		} else {
			s, err = by.link.Sender()
		}
		if err != nil {
			t.Fatal(err)
		}
		n.senders[by] = s
	}
	for _, p := range packets {
		b, err := p.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Send(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Settle(); err != nil {
		t.Fatal(err)
	}
}

// newPort returns a source port that has not been used yet.
func (n *network) newPort() uint16 {
	n.sourcePort++
	return n.sourcePort
}

// newPorts returns the first of so many source ports that have not been used yet, which is
// a multiple of 256. A recipe's source port then ends alike whatever port is probed. Where
// connection tracking has taken away the fragment header behind a routing header, the
// kernel reads the UDP header as the routing header, and whether it is a good one depends on
// that octet (seen on 6.18).
func (n *network) newPorts(count int) uint16 {
	first := n.sourcePort&^0xff + 256
	n.sourcePort = first + uint16(count)
	return first
}

// knock makes the first knocks of a door's sequence.
func (n *network) knock(t *testing.T, w way, door string, knocks int) {
	t.Helper()
	// What the source sent before may have used up its budget.
	time.Sleep(time.Duration(knocks+1) * time.Second / time.Duration(automaton.Attempts.Rate))
	for i := range n.machine.Policy.Doors {
		d := &n.machine.Policy.Doors[i]
		if d.Name != door {
			continue
		}
		for _, k := range d.Knock.Sequence[:knocks] {
			p := &packet.Packet{Src: w.src, Dst: w.dst}
			if k.Protocol == policy.UDP {
				p.UDP = &packet.UDP{SrcPort: n.newPort(), DstPort: k.Number}
			} else {
				p.TCP = &packet.TCP{SrcPort: n.newPort(), DstPort: k.Number, Flags: packet.SYN, Window: 64240}
			}
			n.send(t, senderOf{link: w.link}, p)
		}
		return
	}
	t.Fatalf("no door %q", door)
}

// holds checks what the kernel keeps of a source: how many states and grants.
func (n *network) holds(t *testing.T, source netip.Addr, states, grants int) {
	t.Helper()
	status := labtest.Inspect(t, n.gw, n.backend)
	for _, p := range status.Progress {
		if p.Source == source {
			states--
		}
	}
	for _, g := range status.Grants {
		if g.Source == source {
			grants--
		}
	}
	if states != 0 || grants != 0 {
		t.Fatalf("%s lacks %d states and %d grants that it should have", source, states, grants)
	}
}

// greets speaks to a service over a connection.
func greets(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.WriteString(conn, "who is there?\n"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(banner))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != banner {
		t.Fatalf("the service said %q, %v", got, err)
	}
}

func join(ports []uint16) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ports), " ", ","), "[]")
}
