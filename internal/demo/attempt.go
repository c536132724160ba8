package demo

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"postern/internal/packet"
)

// An answer is the reaction to a connection attempt.
type answer string

const (
	silence     answer = "no answer"
	accepted    answer = "open: it accepts"
	refused     answer = "closed: refused"
	unreachable answer = "closed: unreachable"
)

// try makes a client's own TCP connect to ports of the gateway, in order, and
// returns the answer for each.
func (n *network) try(c *client, from netip.Addr, ports ...uint16) ([]answer, error) {
	if _, err := c.wire.Drain(); err != nil { // discard earlier packets
		return nil, err
	}
	local := make([]uint16, len(ports))
	err := c.host.Do(func() (err error) {
		for i, port := range ports {
			if local[i], err = syn(from, netip.AddrPortFrom(n.address(from), port)); err != nil {
				return fmt.Errorf("connect to port %d: %w", port, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := n.lab.Settle(); err != nil {
		return nil, err
	}
	came, err := c.wire.Drain()
	if err != nil {
		return nil, err
	}
	answers := make([]answer, len(ports))
	for i, port := range ports {
		answers[i] = silence
		for _, p := range came {
			if got := read(p.Packet, port, local[i]); got != "" {
				answers[i] = got
				break
			}
		}
	}
	return answers, nil
}

// syn starts to connect and gives up at once, which sends one SYN. It returns
// the local port. A socket that waited for an answer would repeat the SYN after
// a second, which is a stray packet under "retransmits: reset".
func syn(from netip.Addr, to netip.AddrPort) (local uint16, err error) {
	family := unix.AF_INET
	var source, target unix.Sockaddr
	if from.Is4() {
		source = &unix.SockaddrInet4{Addr: from.As4()}
		target = &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	} else {
		family = unix.AF_INET6
		source = &unix.SockaddrInet6{Addr: from.As16()}
		target = &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, source); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		local = uint16(name.Port)
	case *unix.SockaddrInet6:
		local = uint16(name.Port)
	}
	// A refusal may have arrived already. The capture shows the answer.
	err = unix.Connect(fd, target)
	if err == unix.EINPROGRESS || err == unix.ECONNREFUSED {
		err = nil
	}
	return local, err
}

// read returns the answer that a packet gives to an attempt from a local port
// to a remote one, or "" if it belongs to another.
func read(p *packet.Packet, remote, local uint16) answer {
	switch {
	case p.TCP != nil:
		switch {
		case p.TCP.SrcPort != remote || p.TCP.DstPort != local:
			return ""
		case p.TCP.Flags&packet.RST != 0:
			return refused
		case p.TCP.Flags&(packet.SYN|packet.ACK) == packet.SYN|packet.ACK:
			return accepted
		}
		return answer("odd: " + p.TCP.Flags.String())
	case p.ICMP != nil && (p.Src.Is4() && p.ICMP.Type == packet.Unreachable || p.Src.Is6() && p.ICMP.Type == packet.UnreachableV6):
		// The payload is the packet that caused the error.
		about, err := packet.Parse(p.Payload)
		if err == nil && about.TCP != nil && about.TCP.SrcPort == local && about.TCP.DstPort == remote {
			return unreachable
		}
	}
	return ""
}
