package bpf

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/key"
)

// watch counts the packets that the tables see with the code of a pair, and with any
// priority.
func (s *site) watch(p *Program, d key.Device, door key.Door) {
	s.t.Helper()
	for _, pair := range p.Pairs() {
		if pair.Device == d && pair.Door == door {
			s.nft(fmt.Sprintf(`table inet watch {
				counter right {}
				counter any {}
				chain prerouting { type filter hook prerouting priority raw;
					meta priority %x:%x counter name right
					meta priority != none counter name any
				}
			}`, pair.Code>>16, pair.Code&0xffff))
		}
	}
}

func (s *site) nft(text string) {
	s.t.Helper()
	if out, err := s.server.Command(s.t.Context(), "nft", text).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

var packets = regexp.MustCompile(`counter (\w+) \{\s*packets (\d+)`)

// seen checks how many packets the tables have seen with the code, and that they saw
// no other priority.
func (s *site) seen(what string, want int) {
	s.t.Helper()
	if err := s.lab.Settle(); err != nil {
		s.t.Fatal(err)
	}
	out, err := s.server.Command(s.t.Context(), "nft", "list counters").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	found := packets.FindAllSubmatch(out, -1)
	if len(found) != 2 {
		s.t.Fatalf("%s", out)
	}
	for _, f := range found {
		if got, _ := strconv.Atoi(string(f[2])); got != want {
			s.t.Errorf("%s: the tables saw %d packets with %s code, want %d", what, got, f[1], want)
		}
	}
}

// later returns a time at the end of the window, which no program of the server was
// too late for.
func (s *site) later() time.Time { return time.Now().Add(s.c.Window.Ahead - 50*time.Microsecond) }

// send sends a token from the first client's end of a cable, as its own system does.
func (s *site) send(e envelope, to netip.Addr, token key.Token) {
	s.t.Helper()
	client, at := s.links[0].Peer.Host, netip.AddrPortFrom(to, port)
	switch e {
	case datagram:
		conn, err := client.Dial(s.t.Context(), "udp", at)
		if err != nil {
			s.t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(token[:]); err != nil {
			s.t.Fatal(err)
		}
	case ping:
		from := s.links[0].Peer.Addr4()
		if to.Is6() {
			from = s.links[0].Peer.Addr6()
		}
		p := ping.packet(from, token[:])
		p.Dst = to
		sender, err := s.links[0].Peer.Sender()
		if err != nil {
			s.t.Fatal(err)
		}
		b, err := p.Append(nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := sender.Send(b); err != nil {
			s.t.Fatal(err)
		}
	case synData:
		if err := client.Do(func() error { return sendSYN(at, token[:]) }); err != nil {
			s.t.Fatal(err)
		}
	}
}

// sendSYN sends data in a SYN, and does not wait for an answer.
func sendSYN(to netip.AddrPort, data []byte) error {
	family, address := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port()), Addr: [4]byte(to.Addr().AsSlice()[:4])})
	if to.Addr().Is6() {
		family, address = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1); err != nil {
		return err
	}
	if err := unix.Sendto(fd, data, unix.MSG_FASTOPEN, address); err != nil && err != unix.EINPROGRESS {
		return err
	}
	return nil
}

// TestTraffic: tokens that a client's system sends, over a cable, reach the tables
// with their code; also a SYN's data, which is in a piece of memory of its own.
func TestTraffic(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		for _, e := range envelopes {
			s := newSite(t)
			p := s.load(nil)
			s.attach(p, s.links[0].Name)
			c := key.Credential{Site: s.c.Site, Device: s.people[1].ID, Door: doors[1], Secret: s.people[1].Secret}
			s.watch(p, c.Device, c.Door)
			accepted := 0
			for _, family := range []struct {
				to, from netip.Addr
				lane     key.Lane
			}{
				{s.links[0].Addr4(), s.links[0].Peer.Addr4(), key.Lane4},
				{s.links[0].Addr6(), s.links[0].Peer.Addr6(), key.Lane6},
			} {
				at := s.later()
				token := c.Token(at, family.from, family.lane)
				accepted++
				s.send(e, family.to, token)
				s.seen(fmt.Sprintf("%v to %v", e, family.to), accepted)
				pairs, err := s.find().Pairs()
				if err != nil || len(pairs) != 4 {
					t.Fatal(pairs, err)
				}
				for _, pair := range pairs {
					used := pair.Device == c.Device && pair.Door == c.Door
					if used != pair.Last.Equal(time.Unix(0, at.UnixNano())) {
						t.Errorf("%v: last %v, want %v of %v", pair.Device, pair.Last, at, c.Device)
					}
				}
				s.send(e, family.to, token)
				s.seen("replay", accepted)
				s.send(e, family.to, randomToken())
				s.seen("junk", accepted)
			}
			s.detach()
			s.send(e, s.links[0].Addr4(), c.Token(s.later(), unbound, key.Lane4))
			s.seen("detached", accepted)
		}
	})
}

// TestTun: an interface without link headers, as of a tunnel.
func TestTun(t *testing.T) {
	eachHook(t, func(t *testing.T) {
		if _, err := os.Stat("/dev/net/tun"); err != nil {
			t.Skip(err)
		}
		s := newSite(t)
		var fd int
		s.do(func() (err error) {
			fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			request, err := unix.NewIfreq("tun0")
			if err != nil {
				return err
			}
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
				return err
			}
			l, err := netlink.LinkByName("tun0")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		})
		defer func() { unix.Close(fd) }()
		p := s.load(nil)
		s.attach(p, "tun0")
		c := key.Credential{Site: s.c.Site, Device: s.people[0].ID, Door: doors[0], Secret: s.people[0].Secret}
		s.watch(p, c.Device, c.Door)
		accepted := 0
		for _, e := range envelopes {
			for _, from := range []netip.Addr{sender4, sender6} {
				token := c.Token(s.later(), from, key.Lane4)
				q := e.packet(from, token[:])
				b, err := q.Append(nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := unix.Write(fd, b); err != nil {
					t.Fatal(err)
				}
				accepted++
				s.seen(fmt.Sprintf("%v from %v", e, from), accepted)
			}
		}
	})
}

// TestBridge: a packet passes the program on a port of a bridge, and again on the
// bridge. With br_netfilter the tables come in between; without, after both.
func TestBridge(t *testing.T) {
	needBPF(t)
	for _, filter := range []string{"0", "1"} {
		for _, where := range [][]string{{"br0"}, {"port"}, {"port", "br0"}} {
			t.Run(fmt.Sprintf("%s %v", filter, where), func(t *testing.T) {
				if filter == "1" && len(where) == 1 && where[0] == "br0" {
					t.Skip("the tables see packets before the bridge's program does")
				}
				s := newSite(t)
				at := s.lab.Bridge(s.server, "br0", s.links[0])
				at.AddAddress("192.0.2.100/24", "2001:db8::100/64")
				s.server.Sysctl("net.bridge.bridge-nf-call-iptables", filter)
				s.server.Sysctl("net.bridge.bridge-nf-call-ip6tables", filter)
				p := s.load(nil)
				var names []string
				for _, name := range where {
					if name == "port" {
						name = s.links[0].Name
					}
					names = append(names, name)
				}
				s.attach(p, names...)
				c := key.Credential{Site: s.c.Site, Device: s.people[0].ID, Door: doors[0], Secret: s.people[0].Secret}
				s.watch(p, c.Device, c.Door)
				accepted := 0
				for _, e := range []envelope{datagram, synData} {
					token := c.Token(s.later(), unbound, key.Lane4)
					s.send(e, netip.MustParseAddr("192.0.2.100"), token)
					accepted++
					s.seen(e.String(), accepted)
					counts, err := s.find().Counts()
					if err != nil || counts[0] != uint64(accepted) || counts[key.Replayed] != 0 {
						t.Errorf("counted %v (%v)", counts, err)
					}
				}
			})
		}
	}
}
