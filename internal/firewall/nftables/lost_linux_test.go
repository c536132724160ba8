package nftables

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
	"postern/internal/lab/labtest"
	"postern/internal/packet"
)

// TestLostSYN: a SYN that was admitted and then lost on its way to the service
// has used up the grant. Its retransmission gets in all the same, and nothing
// that merely looks like it does.
func TestLostSYN(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddInner()
	s.Up(labtest.Closed + `
doors:
  ssh: {service: tcp/22, knock: {sequence: [1, 2]}}
  inner: {service: tcp/443, forward: "10.0.0.2:8443", masquerade: true, knock: {sequence: [3, 4]}}
  inner6: {service: tcp/444, forward: "[2001:db8:1::2]:8443", masquerade: true, knock: {sequence: [5, 6]}}
  time: {service: udp/123, knock: {sequence: [7, 8]}}
`)
	labtest.Greet(t, s.Gateway, 22, "ssh")
	labtest.Greet(t, s.Inner, 8443, "inner")
	labtest.EchoUDP(t, s.Gate, 123)
	forwarded := map[labtest.Family]uint16{labtest.IPv4: 443, labtest.IPv6: 444}
	knocks := map[uint16]uint16{22: 1, 443: 3, 444: 5, 123: 7} // the first; the second is one more
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		for _, c := range []struct {
			name string
			port uint16
			at   *lab.Host // which then drops it
			hook string
		}{
			{"a later table drops it", 22, s.Gateway, "input"},
			{"the gateway's own rules do not forward it", forwarded[f], s.Gateway, "forward"},
			{"it is lost on the inner link", forwarded[f], s.Inner, "prerouting"},
		} {
			t.Run(c.name, func(t *testing.T) {
				src := s.NewAddress(f)
				s.Knock(src, labtest.TCP(knocks[c.port]), labtest.TCP(knocks[c.port]+1))
				first := s.Opening(src, labtest.On(s.Gate, f), labtest.TCP(c.port))
				dropping(t, c.at, c.hook, "tcp flags syn drop")
				if got := s.Ask(first); got != labtest.Silence {
					t.Fatalf("the SYN to lose got %s", got)
				}
				restored(t, c.at)
				like := func(change func(p *packet.Packet)) *packet.Packet {
					p, header := *first, *first.TCP
					p.TCP = &header
					change(&p)
					return &p
				}
				other := s.NewAddress(f)
				for what, p := range map[string]*packet.Packet{
					"another sequence number": like(func(p *packet.Packet) { p.TCP.Seq++ }),
					"another port":            like(func(p *packet.Packet) { p.TCP.SrcPort++ }),
					"another source":          like(func(p *packet.Packet) { p.Src = other }),
					"another service":         like(func(p *packet.Packet) { p.TCP.DstPort++ }),
				} {
					if got := s.Ask(p); got != labtest.Silence {
						t.Errorf("%s got %s", what, got)
					}
				}
				if got := s.Ask(first); got != labtest.SYNACK {
					t.Errorf("the retransmission got %s", got)
				}
			})
			t.Run(c.name+", and a real system sends it again", func(t *testing.T) {
				s.Knock(labtest.On(s.Outside, f), labtest.TCP(knocks[c.port]), labtest.TCP(knocks[c.port]+1))
				dropping(t, c.at, c.hook, "tcp flags syn limit rate 1/week burst 1 packets drop")
				greeting := "ssh"
				if c.port != 22 {
					greeting = "inner"
				}
				s.Dial(t, s.Client, netip.AddrPortFrom(labtest.On(s.Gate, f), c.port), greeting)
				restored(t, c.at)
			})
		}
		t.Run("a lost datagram", func(t *testing.T) {
			src := s.NewAddress(f)
			s.Knock(src, labtest.TCP(7), labtest.TCP(8))
			p := s.Opening(src, labtest.On(s.Gate, f), labtest.UDP(123))
			dropping(t, s.Gateway, "input", "udp dport 123 drop")
			if got := s.Ask(p); got != labtest.Silence {
				t.Fatalf("the datagram to lose got %s", got)
			}
			restored(t, s.Gateway)
			s.Expect(t, src, labtest.UDP(123), labtest.Silence, "another flow")
			if got := s.Ask(p); got != labtest.Received {
				t.Errorf("the flow's next datagram got %s", got)
			}
		})
	})
}

// dropping adds another program's table that drops packets.
func dropping(t *testing.T, h *lab.Host, hook, rule string) {
	t.Helper()
	s := &scene{&labtest.Scene{T: t, Gateway: h}}
	s.nft("table inet other {\n\tchain c {\n\t\ttype filter hook " + hook + " priority 10\n\t\t" + rule + "\n\t}\n}\n")
}

func restored(t *testing.T, h *lab.Host) {
	t.Helper()
	s := &scene{&labtest.Scene{T: t, Gateway: h}}
	s.nft("delete table inet other")
}

// TestBacklog: the service is too busy to take a SYN that was admitted.
func TestBacklog(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	labtest.Each(t, func(t *testing.T, f labtest.Family) {
		if err := s.Gateway.Do(Backend{}.Remove); err != nil {
			t.Fatal(err)
		}
		port := uint16(22)
		if f == labtest.IPv6 {
			port = 23
		}
		ln := s.listenShort(t, f, port)
		at := netip.AddrPortFrom(labtest.On(s.Gate, f), port)
		var full []net.Conn
		for range 2 { // a backlog of n holds n+1 connections
			conn, err := s.Client.Dial(labtest.Soon(t), "tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			full = append(full, conn)
		}
		s.Up(labtest.Closed + "doors: {ssh: {service: [tcp/22, tcp/23], knock: {sequence: [1, 2]}}}\n")
		src := s.NewAddress(f)
		s.Knock(src, labtest.TCP(1), labtest.TCP(2))
		first := s.Opening(src, labtest.On(s.Gate, f), labtest.TCP(port))
		if got := s.Ask(first); got != labtest.Silence {
			t.Fatalf("with a full backlog the SYN got %s", got)
		}
		for range full {
			fd, _, err := unix.Accept(ln)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
		}
		again := *first.TCP
		again.Seq++
		if got := s.Ask(&packet.Packet{Src: first.Src, Dst: first.Dst, TCP: &again}); got != labtest.Silence {
			t.Errorf("another SYN from the same port got %s", got)
		}
		if got := s.Ask(first); got != labtest.SYNACK {
			t.Errorf("the retransmission got %s", got)
		}
	})
}

// listenShort listens with the shortest backlog that has an effect, and accepts
// nothing by itself.
func (s *scene) listenShort(t *testing.T, f labtest.Family, port uint16) (fd int) {
	t.Helper()
	err := s.Gateway.Do(func() (err error) {
		var addr unix.Sockaddr = &unix.SockaddrInet4{Port: int(port)}
		domain := unix.AF_INET
		if f == labtest.IPv6 {
			addr, domain = &unix.SockaddrInet6{Port: int(port)}, unix.AF_INET6
		}
		if fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(fd, addr); err != nil {
			return err
		}
		return unix.Listen(fd, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}
