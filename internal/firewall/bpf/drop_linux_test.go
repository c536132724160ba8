package bpf

import (
	"net/netip"
	"testing"

	"postern/internal/key"
	"postern/internal/lab"
)

// TestDrop: the program drops nothing but datagrams to the port that have 40 bytes and
// no right token, on a host that does not forward, for an address of the link and no
// socket; and only if it is told to.
func TestDrop(t *testing.T) {
	for _, from := range []netip.Addr{sender4, sender6} {
		t.Run(from.String(), func(t *testing.T) {
			dropped(newScene(t, nil, func(c *Config) { c.DropJunk = true }), lab.NewT(t), from)
		})
	}
	t.Run("not told to", func(t *testing.T) {
		s := newScene(t, nil, nil)
		h := lab.NewT(t).Host("host")
		junk := randomToken()
		s.answers(h, "junk", frame(t, datagram.packet(sender4, junk[:])), next)
	})
}

// answers checks what the program answers to a frame that arrives on a host.
func (s *scene) answers(h *lab.Host, what string, frame []byte, want int32) {
	s.t.Helper()
	var got verdict
	err := h.Do(func() (err error) { got, err = s.program.run(frame, 0); return err })
	if err != nil {
		s.t.Fatal(err)
	}
	if got.answer != want {
		s.t.Errorf("%s: %d, want %d", what, got.answer, want)
	}
}

func dropped(s *scene, l *lab.Lab, from netip.Addr) {
	t := s.t
	h := l.Host("host")
	forwarding := "net.ipv4.ip_forward"
	if from.Is6() {
		forwarding = "net.ipv6.conf.all.forwarding"
	}
	token := randomToken()
	junk := frame(t, datagram.packet(from, token[:]))
	s.answers(h, "junk", junk, drop)
	s.answers(h, "a ping", frame(t, ping.packet(from, token[:])), next)
	s.answers(h, "a SYN", frame(t, synData.packet(from, token[:])), next)
	s.answers(h, "a longer one", frame(t, datagram.packet(from, append(token[:], 0))), next)
	p := datagram.packet(from, token[:])
	p.UDP.DstPort++
	s.answers(h, "to another port", frame(t, p), next)
	good := s.credential(0, 0).Token(s.fresh(), from, key.Lane4)
	s.answers(h, "a token", frame(t, datagram.packet(from, good[:])), next)
	s.answers(h, "a replay", frame(t, datagram.packet(from, good[:])), drop)

	elsewhere := append([]byte{}, junk...)
	elsewhere[5] = 7
	s.answers(h, "for another host of the link", elsewhere, next)
	elsewhere[0] = 1
	s.answers(h, "for several", elsewhere, next)

	h.Sysctl(forwarding, "1")
	s.answers(h, "where it may be for a host behind", junk, next)
	h.Sysctl(forwarding, "0")
	s.answers(h, "where it may not", junk, drop)

	network := "udp4"
	if from.Is6() {
		network = "udp6"
	}
	conn, err := h.ListenPacket(t.Context(), network, ":40123")
	if err != nil {
		t.Fatal(err)
	}
	s.answers(h, "for a socket", junk, next)
	conn.Close()
	s.answers(h, "for none any more", junk, drop)
}
