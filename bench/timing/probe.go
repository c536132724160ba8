//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
	"postern/internal/lab"
	"postern/internal/packet"
)

// A probe is a packet to a port of the server: a SYN, or an empty UDP datagram.
type probe struct {
	port uint16
	udp  bool
}

func (p probe) String() string {
	if p.udp {
		return fmt.Sprintf("udp/%d", p.port)
	}
	return fmt.Sprintf("tcp/%d", p.port)
}

// times are what an attacker can measure of one timed call, in nanoseconds.
type times struct {
	answer int64 // from before the call until the last answer left the server
	call   int64 // the whole call, with what the server did after the answer
	gap    int64 // between the first answer and the last; 0 if there was one
}

// A prober sends probes from any source, and times the answers. It is not safe
// for concurrent use.
type prober struct {
	sender          *lab.Sender
	ring            *lab.Ring
	server, server6 netip.Addr

	packet packet.Packet
	tcp    packet.TCP
	udp    packet.UDP
	spare  [][]byte // memory for packets, reused
	sent   int      // all packets so far
}

// newProber returns a prober at the client's end of a cable.
func newProber(from *lab.Link) (*prober, error) {
	p := &prober{server: from.Peer.Addr4(), server6: from.Peer.Addr6()}
	for range 64 {
		p.spare = append(p.spare, make([]byte, 0, 128))
	}
	var err error
	if p.sender, err = from.Sender(); err != nil {
		return nil, err
	}
	if p.ring, err = from.Ring(); err != nil {
		return nil, err
	}
	return p, descriptor.Use(p.ring.File(), func(fd int) error {
		// The time of an answer is that at which the server's end of the cable
		// gave it away, not that at which this socket got it.
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1))
	})
}

func (p *prober) close() {
	p.ring.File().Close()
	p.ring.Close()
}

// write returns the packets of probes in the prober's spare memory, of which
// the first is at index at.
func (p *prober) write(src netip.Addr, probes []probe, at int) ([][]byte, error) {
	dst := p.server
	if src.Is6() {
		dst = p.server6
	}
	for i, to := range probes {
		from := uint16(1024 + rand.IntN(60000))
		p.packet = packet.Packet{Src: src, Dst: dst}
		if to.udp {
			p.udp = packet.UDP{SrcPort: from, DstPort: to.port}
			p.packet.UDP = &p.udp
		} else {
			p.tcp = packet.TCP{SrcPort: from, DstPort: to.port, Seq: rand.Uint32(), Flags: packet.SYN, Window: 64240}
			p.packet.TCP = &p.tcp
		}
		var err error
		if p.spare[at+i], err = p.packet.Append(p.spare[at+i][:0]); err != nil {
			return nil, err
		}
	}
	return p.spare[at:][:len(probes)], nil
}

var errSilent = errors.New("no answer")

// try sends some probes, and then others that it times. The last of these must
// be to a TCP port that answers; otherwise the error is errSilent.
func (p *prober) try(src netip.Addr, before, timed []probe) (times, error) {
	first, err := p.write(src, before, 0)
	if err != nil {
		return times{}, err
	}
	then, err := p.write(src, timed, len(before))
	if err != nil {
		return times{}, err
	}
	p.sent += len(before) + len(timed)
	if len(first) > 0 {
		if _, err := p.sender.Send(first...); err != nil {
			return times{}, err
		}
	}
	began := time.Now()
	_, err = p.sender.Send(then...)
	call := time.Since(began)
	if err != nil {
		return times{}, err
	}
	t := times{call: call.Nanoseconds()}
	start, source := began.UnixNano(), src.AsSlice()
	var opening int64
	err = p.ring.Read(func(raw []byte, at time.Time, _ bool) {
		flags, port := answerOf(raw, source)
		if flags == 0 {
			return
		}
		when := at.UnixNano() - start
		switch {
		case when > 0 && port == timed[len(timed)-1].port:
			t.answer = when
		case when > 0 && port == timed[0].port:
			opening = when
		}
	})
	if err != nil {
		return times{}, err
	}
	if t.answer == 0 {
		return times{}, errSilent
	}
	if opening > 0 {
		t.gap = t.answer - opening
	}
	return t, nil
}

// scan sends SYNs to random ports, each from another source.
func (p *prober) scan(source sourceKind) error {
	for i := range p.spare {
		if _, err := p.write(source.next(), []probe{{port: anyPort()}}, i); err != nil {
			return err
		}
	}
	p.sent += len(p.spare)
	if _, err := p.sender.Send(p.spare...); err != nil {
		return err
	}
	return p.ring.Read(func([]byte, time.Time, bool) {})
}

// opens reports whether the last of some probes is answered with a SYN-ACK.
func (p *prober) opens(src netip.Addr, probes []probe) (bool, error) {
	packets, err := p.write(src, probes, 0)
	if err != nil {
		return false, err
	}
	p.sent += len(probes)
	if _, err := p.sender.Send(packets...); err != nil {
		return false, err
	}
	open, source := false, src.AsSlice()
	err = p.ring.Read(func(raw []byte, _ time.Time, _ bool) {
		flags, port := answerOf(raw, source)
		if port == probes[len(probes)-1].port && flags == packet.SYN|packet.ACK {
			open = true
		}
	})
	return open, err
}

// lost returns an error if answers did not fit into the ring.
func (p *prober) lost() error {
	n, err := p.ring.Lost()
	if err == nil && n > 0 {
		err = fmt.Errorf("%d answers were lost", n)
	}
	return err
}

// answerOf returns flags and source port of a TCP packet to an address, or 0
// flags for any other packet.
func answerOf(raw, to []byte) (packet.TCPFlags, uint16) {
	var tcp []byte
	switch {
	case len(raw) >= 60 && raw[0]>>4 == 6 && raw[6] == byte(packet.ProtocolTCP) && string(raw[24:40]) == string(to):
		tcp = raw[40:]
	case len(raw) >= 40 && raw[0] == 0x45 && raw[9] == byte(packet.ProtocolTCP) && string(raw[16:20]) == string(to):
		tcp = raw[20:]
	default:
		return 0, 0
	}
	return packet.TCPFlags(tcp[13]), binary.BigEndian.Uint16(tcp)
}
