package bpf

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"postern/internal/key"
	"postern/internal/packet"
)

// envelopeOf returns what a frame carries in place of a token, and its sender, or
// false if it is none that can have one. It is what the program must do, by way of
// package packet.
func envelopeOf(frame []byte) (token key.Token, from netip.Addr, ok bool) {
	const longest = 32 + 40 + 60 + key.TokenSize // with all headers
	if len(frame) > longest {
		return token, from, false
	}
	p, err := packet.Parse(frame[ethernet:])
	if err != nil {
		return token, from, false
	}
	wantType := map[bool]uint16{true: unix.ETH_P_IP, false: unix.ETH_P_IPV6}[p.Src.Is4()]
	if binary.BigEndian.Uint16(frame[12:]) != wantType || p.IsFragment() || len(p.V4.Options) > 0 || len(p.V6.Extensions) > 0 {
		return token, from, false
	}
	switch {
	case p.UDP != nil:
		ok = p.UDP.DstPort == port
	case p.TCP != nil:
		ok = p.TCP.DstPort == port && p.TCP.Flags&(packet.SYN|packet.FIN|packet.RST|packet.ACK) == packet.SYN
	case p.ICMP != nil:
		request := uint8(packet.EchoRequest)
		if p.Src.Is6() {
			request = packet.EchoRequestV6
		}
		ok = p.ICMP.Type == request && p.ICMP.Code == 0
	}
	if !ok || len(p.Payload) != key.TokenSize {
		return token, from, false
	}
	return key.Token(p.Payload), p.Src, true
}

// judge has the program judge a frame, and the verifier what is in it, and reports
// where they differ. It reports whether the frame was accepted.
func (s *scene) judge(what string, frame []byte) bool {
	s.t.Helper()
	const priority = 7 // of the packet, before
	got, err := s.program.run(frame, priority)
	if errors.Is(err, unix.EINVAL) && len(frame) < ethernet+40 {
		return false // the kernel tests nothing without a whole IP header
	}
	if err != nil {
		s.t.Fatal(err)
	}
	outcome := s.outcome()
	want, counted := verdict{next, priority}, -1
	if token, from, ok := envelopeOf(frame); ok {
		device, door, does, err := s.verifier.Verify(token, from, s.now())
		if err == nil {
			want.priority, counted = s.code(device, door)|closing(does), 0
		} else {
			counted = int(err.(key.Refusal))
		}
	}
	if got != want || outcome != counted {
		s.t.Errorf("%s: the program answers %+v and counts %d, want %+v and %d\n%x", what, got, outcome, want, counted, frame)
	}
	return want.priority != priority
}

// headerBits has every bit of the headers changed. The token is a good one, and new
// each time.
func headerBits(s *scene, e envelope, from netip.Addr) {
	accepted, refused := 0, 0
	for bit := 0; ; bit++ {
		token := s.credential(0, 0).Token(s.fresh(), unbound, key.Lane4)
		b := frame(s.t, e.packet(from, token[:]))
		if bit/8 >= len(b)-key.TokenSize {
			break
		}
		b[bit/8] ^= 1 << (bit % 8)
		if s.judge("header bit", b) {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 100 || refused < 50 {
		s.t.Errorf("%d frames were accepted and %d refused", accepted, refused)
	}
}

func TestHeaderBits(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) { headerBits(newScene(t, nil, nil), e, from) })
}

// shapes sends good tokens in packets of all shapes, most of which can have none.
func shapes(s *scene, e envelope, from netip.Addr) {
	for what, change := range map[string]func(p *packet.Packet){
		"as it is":     func(p *packet.Packet) {},
		"class":        func(p *packet.Packet) { p.TrafficClass = 0xff },
		"TTL":          func(p *packet.Packet) { p.TTL = 1 },
		"options":      func(p *packet.Packet) { p.V4.Options = []byte{1, 1, 1, 0} },
		"don't":        func(p *packet.Packet) { p.V4.Flags = packet.DontFragment },
		"fragment":     func(p *packet.Packet) { p.V4.Flags = packet.MoreFragments },
		"offset":       func(p *packet.Packet) { p.V4.Offset = 8 },
		"hop by hop":   func(p *packet.Packet) { p.V6.Extensions = []packet.Extension{packet.HopByHop()} },
		"destination":  func(p *packet.Packet) { p.V6.Extensions = []packet.Extension{packet.DestinationOptions()} },
		"atomic":       func(p *packet.Packet) { p.V6.Extensions = []packet.Extension{packet.FragmentHeader(7, 0, 0)} },
		"longer":       func(p *packet.Packet) { p.Payload = append(p.Payload, 0) },
		"shorter":      func(p *packet.Packet) { p.Payload = p.Payload[:39] },
		"empty":        func(p *packet.Packet) { p.Payload = nil },
		"flow label":   func(p *packet.Packet) { p.V6.FlowLabel = 0xfffff },
		"to elsewhere": func(p *packet.Packet) { p.Dst = neighbour(p.Dst) },
		"no options": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Options = nil
			}
		},
		"all options": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Options = make([]byte, 40)
			}
		},
		"ECN": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Flags |= packet.ECE | packet.CWR
			}
		},
		"SYN-ACK": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Flags |= packet.ACK
			}
		},
		"no SYN": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Flags = packet.ACK
			}
		},
		"SYN-FIN": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Flags |= packet.FIN
			}
		},
		"SYN-RST": func(p *packet.Packet) {
			if p.TCP != nil {
				p.TCP.Flags |= packet.RST
			}
		},
		"reply": func(p *packet.Packet) {
			if p.ICMP != nil {
				p.ICMP.Type = packet.EchoReply
			}
		},
		"code": func(p *packet.Packet) {
			if p.ICMP != nil {
				p.ICMP.Code = 1
			}
		},
		"IPv4's type": func(p *packet.Packet) {
			if p.ICMP != nil {
				p.ICMP.Type = packet.EchoRequest
			}
		},
		"IPv6's type": func(p *packet.Packet) {
			if p.ICMP != nil {
				p.ICMP.Type = packet.EchoRequestV6
			}
		},
		"checksum": func(p *packet.Packet) {
			if p.UDP != nil {
				p.UDP.ChecksumError = 1
			}
		},
		"another port": func(p *packet.Packet) {
			if p.UDP != nil {
				p.UDP.DstPort++
			}
			if p.TCP != nil {
				p.TCP.DstPort ^= 0x100
			}
		},
	} {
		token := s.credential(0, 0).Token(s.fresh(), from, key.Lane4)
		p := e.packet(from, token[:])
		change(&p)
		if from.Is4() {
			p.V6.Extensions = nil
		}
		b := frame(s.t, p)
		s.judge(what, b)
		s.judge(what+", padded", append(b, make([]byte, 6)...))
		for cut := 1; cut < len(b)-ethernet; cut++ {
			s.judge(what+", cut off", b[:len(b)-cut])
		}
	}
}

func TestShapes(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) { shapes(newScene(t, nil, nil), e, from) })
}

// TestRandomPackets: random packets of every length are let by as they are.
func TestRandomPackets(t *testing.T) {
	s := newScene(t, nil, nil)
	for length := ethernet; length <= ethernet+1500; length++ {
		for _, kind := range []uint16{unix.ETH_P_IP, unix.ETH_P_IPV6, unix.ETH_P_8021Q, 0} {
			b := make([]byte, length)
			for i := range b {
				b[i] = byte(rand.Uint32())
			}
			if kind != 0 {
				binary.BigEndian.PutUint16(b[12:], kind)
			}
			if length > ethernet && rand.IntN(2) == 0 {
				b[ethernet] = map[uint16]byte{unix.ETH_P_IP: 0x45, unix.ETH_P_IPV6: 0x60}[kind]
			}
			s.judge("random", b)
		}
	}
}

// TestRandomCandidates: packets whose headers are right here and there, and random
// otherwise.
func TestRandomCandidates(t *testing.T) {
	each(t, func(t *testing.T, e envelope, from netip.Addr) {
		s := newScene(t, nil, nil)
		for range 1000 {
			token := s.credential(rand.IntN(3), 0).Token(s.fresh(), unbound, key.Lane(rand.IntN(2)))
			b := frame(t, e.packet(from, token[:]))
			for range rand.IntN(4) {
				b[12+rand.IntN(len(b)-12)] = byte(rand.Uint32())
			}
			s.judge("random bytes", b)
		}
	})
}

// sendFrame sends bytes on an interface as they are.
func sendFrame(name string, b []byte) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, b, 0, &unix.SockaddrLinklayer{Ifindex: l.Attrs().Index})
}
