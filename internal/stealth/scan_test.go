//go:build linux

package stealth

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"postern/internal/firewall/backends"
	"postern/internal/packet"
	"postern/internal/policy"
)

var allPorts = flag.Bool("all-ports", false, "scan all 65,535 ports")

// TestStealthScans scans a host with every scan that nmap has: while no client
// knocks, while one is knocking, has grants, and has used them. Every port must be
// in the same state, with answers that are the same in every header field.
func TestStealthScans(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for _, c := range covers {
		for _, family := range []string{"IPv4", "IPv6"} {
			t.Run(c.String()+"/"+family, func(t *testing.T) {
				t.Parallel()
				i := slices.Index([]string{"IPv4", "IPv6"}, family)
				s := &scans{network: newNetwork(t, c, usual), cover: c, ports: somePorts(seed)}
				s.scanner, s.friend = ways(s.fromScanner)[i], ways(s.fromFriend)[i]
				s.story(t)
			})
		}
	}
}

// somePorts returns the ports to scan: for TCP and UDP, the special ones and 1,000
// others.
func somePorts(seed uint64) map[bool][]uint16 {
	random := rand.New(rand.NewPCG(seed, 0))
	ports := map[bool][]uint16{}
	for udp, special := range map[bool][]uint16{false: specialTCP, true: specialUDP} {
		some := slices.Clone(special)
		for len(some) < len(special)+1000 {
			if p := uint16(1 + random.IntN(65535)); !slices.Contains(some, p) {
				some = append(some, p)
			}
		}
		slices.Sort(some)
		ports[udp] = some
	}
	return ports
}

// scans is one host being scanned while others knock.
type scans struct {
	*network
	cover           cover
	ports           map[bool][]uint16 // by whether they are UDP's
	scanner, friend way
}

// story is what happens around the scans.
func (s *scans) story(t *testing.T) {
	s.scan(t, "nobody knocks", kinds)

	// One is knocking at a door and has the grants of others, and the scanner
	// has begun to knock itself.
	doors := []string{"dns"}
	if s.scanner.src.Is4() {
		doors = []string{"dns", "web", "sync", "local"}
	}
	for _, d := range doors {
		s.knock(t, s.friend, d, 3)
	}
	s.knock(t, s.friend, "ssh", 2)
	s.knock(t, s.scanner, "ssh", 1)
	s.holds(t, s.friend.src, 1, len(doors))
	s.holds(t, s.scanner.src, 1, 0)
	s.scan(t, "a client is knocking and has grants", kinds)
	s.holds(t, s.friend.src, 1, len(doors))

	s.knock(t, s.friend, "ssh", 3)
	conns := []net.Conn{s.dial(t, "tcp", s.friend.dst, 22), s.dial(t, "udp", s.friend.dst, 5353)}
	if s.scanner.src.Is4() {
		conns = append(conns, s.dial(t, "tcp", s.friend.dst, 8443), s.dial(t, "udp", s.friend.dst, 5354),
			s.dial(t, "tcp", s.scanner.dst, 8080))
	}
	s.scan(t, "a client is connected", slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !k.asks }))
	// What asks for nothing new must not tell even the one who holds a grant.
	s.knock(t, s.scanner, "ssh", 3)
	s.holds(t, s.scanner.src, 0, 1)
	s.scan(t, "a client is connected and the scanner has a grant", slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return k.asks }))
	s.holds(t, s.scanner.src, 0, 1)
	for _, c := range conns {
		greets(t, c)
	}
}

// dial opens a connection for the friend, who must be let in, and leaves it open.
func (s *scans) dial(t *testing.T, protocol string, to netip.Addr, port uint16) net.Conn {
	t.Helper()
	conn, err := s.network.friend.Dial(t.Context(), protocol, netip.AddrPortFrom(to, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Hour))
	if protocol == "tcp" {
		if _, err := conn.Read(make([]byte, len(banner))); err != nil {
			t.Fatal(err)
		}
	} else {
		greets(t, conn)
	}
	return conn
}

// scan has nmap scan the host in some of its ways.
func (s *scans) scan(t *testing.T, when string, kinds []kind) {
	for _, k := range kinds {
		t.Run(when+"/"+k.option, func(t *testing.T) {
			ports, count := join(s.ports[k.udp]), len(s.ports[k.udp])
			if *allPorts {
				ports, count = "-", 65535
			}
			retries, shapesWanted := 6, 1
			if k.answer(s.cover.answer) == policy.NoAnswer {
				shapesWanted = 0
				retries = 1 // never an answer, and each costs as much as the first
			}
			want := k.expects(k.answer(s.cover.answer))
			for again := range 3 {
				got, shapes, answered, err := s.look(t, k, ports, retries)
				if err != nil && again < 2 {
					t.Logf("%v: again", err)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if len(shapes) != shapesWanted {
					t.Errorf("answers of %d shapes, want %d:%s", len(shapes), shapesWanted, list(shapes))
				}
				if len(got) == 1 && got[want] == count {
					return
				}
				// On a busy machine nmap may miss answers that were there.
				if answered == count && again < 2 {
					t.Logf("nmap finds %v, though all %d ports answered: again", got, count)
					continue
				}
				t.Errorf("nmap finds %v, want %d ports %v; on the link were answers from %d", got, count, want, answered)
				return
			}
		})
	}
}

// look has nmap scan ports. It returns what nmap says of them, and what was on the link: the
// answers' shapes, and from how many ports there was one. It fails if the capture misses
// any, as it may on a busy machine.
func (s *scans) look(t *testing.T, k kind, ports string, retries int) (got map[state]int, shapes map[string][]uint16, answered int, err error) {
	t.Helper()
	capture, err := s.fromScanner.Capture(isAnswer)
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	got = s.nmap(t, k, s.scanner.dst, ports, retries)
	if err := s.Settle(); err != nil {
		t.Fatal(err)
	}
	probes := map[pair]*packet.Packet{}
	shapes = map[string][]uint16{}
	from := map[uint16]bool{}
	seen, err := capture.Drain()
	if err != nil {
		return nil, nil, 0, err
	}
	for _, c := range seen {
		p, ok := pairOf(c)
		switch {
		case ok && c.Out:
			probes[p] = c.Packet
		case ok && probes[p] != nil:
			shape := shapeOf(probe{whole: probes[p]}, c.Packet).String()
			shapes[shape] = append(shapes[shape], p.theirs)
			from[p.theirs] = true
		default:
			t.Errorf("an answer to nothing: %v", c.Packet)
		}
	}
	return got, shapes, len(from), nil
}

// TestStealthAddresses scans a host that has several addresses and checks sources strictly,
// at those that it has beside the first one. nmap takes no notice of an ICMP error from
// another address than it asked.
func TestStealthAddresses(t *testing.T) {
	for _, b := range backends.All() {
		c := cover{policy.Guard, policy.CoverReset, b}
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t, c, site{rpFilter: 1, several: true})
			n.scanner.Route("198.0.0.0/8", n.fromScanner.Peer.Addr4())
			n.scanner.Route("2001:db8::/32", n.fromScanner.Peer.Addr6())
			for _, to := range []string{
				"192.0.2.77", "198.18.7.2", "198.18.8.8", "198.51.100.2",
				"2001:db8:1::77", "2001:db8:7::2", "2001:db8:8::8", "2001:db8:2::2",
			} {
				for _, k := range kinds {
					special := specialTCP
					switch {
					case k.udp:
						special = specialUDP
					case !k.asks:
						continue
					}
					special = slices.DeleteFunc(slices.Clone(special), isSecond)
					got := n.nmap(t, k, netip.MustParseAddr(to), join(special)+",40001,40002", 6)
					if want := k.expects(k.answer(c.answer)); len(got) != 1 || got[want] != len(special)+2 {
						t.Errorf("%s, %s: nmap finds %v, want %d ports %v", to, k.option, got, len(special)+2, want)
					}
				}
			}
		})
	}
}

// isSecond reports whether a port is a door's second knock. Where so few ports are scanned in
// random order, chance would open a door now and then; without this one it cannot.
func isSecond(port uint16) bool { return port/1000 == 7 && port%10 == 2 }

// expects is what nmap reports of ports that answer so.
func (k kind) expects(answer policy.Answer) state {
	switch answer {
	case policy.NoAnswer:
		if slices.Contains([]string{"-sS", "-sA", "-sW"}, k.option) {
			return state{"filtered", "no-response"}
		}
		return state{"open|filtered", "no-response"}
	case policy.AnswerUnreachable:
		if k.udp {
			return state{"closed", "port-unreach"}
		}
		return state{"filtered", "port-unreach"}
	case policy.AnswerReset:
		if k.option == "-sA" {
			return state{"unfiltered", "reset"}
		}
		return state{"closed", "reset"}
	}
	panic("nmap's word for " + answer.String() + " is not known here")
}

// answer is how a cover answers the packets of the scan.
func (k kind) answer(c policy.Cover) policy.Answer {
	if k.udp {
		return c.Answer(policy.UDP)
	}
	return c.Answer(policy.TCP)
}

// list writes shapes with some of the ports that they came from.
func list(shapes map[string][]uint16) string {
	text := ""
	for shape, ports := range shapes {
		slices.Sort(ports)
		text += fmt.Sprintf("\n%d ports, %s …: %s", len(ports), join(ports[:min(12, len(ports))]), shape)
	}
	return text
}
