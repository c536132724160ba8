//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
	"postern/internal/packet"
)

// A rawSocket receives a copy of each packet of one protocol that the host
// takes in. The kernel makes the copy behind the input hook, so a packet that
// a rule has dropped, refused or sent elsewhere does not show.
type rawSocket struct {
	f       *os.File
	v6      bool
	proto   packet.Protocol
	octets  []byte
	control []byte
}

// Admitted records the packets of a protocol (TCP, UDP or ICMP; ICMP stands for
// ICMPv6 too) that the host's rules have let in for itself, of both families.
// In IPv6 the kernel hands over no IP header: flow label and extension headers
// do not show.
func (h *Host) Admitted(proto packet.Protocol, filter Filter) (*Capture, error) {
	if err := h.lab.usable(); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("%s admitted by host %q", proto, h.Name)
	proto6 := proto
	if proto == packet.ProtocolICMP {
		proto6 = packet.ProtocolICMPv6
	}
	var s4, s6 *rawSocket
	err := h.Do(func() (err error) {
		if s4, err = newRawSocket(unix.AF_INET, proto); err != nil {
			return err
		}
		if s6, err = newRawSocket(unix.AF_INET6, proto6); err != nil {
			s4.f.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("lab: capture %s: %w", what, err)
	}
	return h.newCapture(what, filter, s4, s6), nil
}

func newRawSocket(family int, proto packet.Protocol) (*rawSocket, error) {
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(proto))
	if err != nil {
		return nil, err
	}
	// The kernel refuses the first to ordinary users; the second is limited by
	// net.core.rmem_max.
	const room = 16 << 20
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) != nil {
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
	}
	options := [][2]int{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS}}
	if family == unix.AF_INET6 {
		options = append(options, [][2]int{
			{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT},
			{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS},
		}...)
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o[0], o[1], 1); err != nil {
			unix.Close(fd)
			return nil, err
		}
	}
	return &rawSocket{
		f:       os.NewFile(uintptr(fd), "raw socket"),
		v6:      family == unix.AF_INET6,
		proto:   proto,
		octets:  make([]byte, 1<<16),
		control: make([]byte, 512),
	}, nil
}

func (s *rawSocket) File() *os.File { return s.f }

func (s *rawSocket) Read(keep func(raw []byte, at time.Time, out bool)) error {
	return descriptor.Use(s.f, func(fd int) error {
		for {
			n, cn, _, from, err := unix.Recvmsg(fd, s.octets, s.control, unix.MSG_DONTWAIT)
			switch {
			case err == unix.EAGAIN:
				return nil
			case err == unix.EINTR:
				continue
			case err != nil:
				return err
			}
			messages, err := unix.ParseSocketControlMessage(s.control[:cn])
			if err != nil {
				return err
			}
			raw, at := s.octets[:n], time.Time{}
			p := packet.Packet{Protocol: s.proto, Payload: raw}
			if s.v6 {
				p.Src = netip.AddrFrom16(from.(*unix.SockaddrInet6).Addr)
			}
			for _, m := range messages {
				switch {
				case m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS:
					at = time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
				case m.Header.Level != unix.IPPROTO_IPV6:
				case m.Header.Type == unix.IPV6_PKTINFO:
					p.Dst = netip.AddrFrom16([16]byte(m.Data))
				case m.Header.Type == unix.IPV6_HOPLIMIT:
					p.TTL = uint8(binary.NativeEndian.Uint32(m.Data))
				case m.Header.Type == unix.IPV6_TCLASS:
					p.TrafficClass = uint8(binary.NativeEndian.Uint32(m.Data))
				}
			}
			if s.v6 {
				// An IP header as it may have been.
				if raw, err = p.Append(nil); err != nil {
					return err
				}
			}
			keep(raw, at, false)
		}
	})
}

func (s *rawSocket) Lost() (uint32, error) {
	var info [unix.SK_MEMINFO_VARS]uint32
	err := descriptor.Use(s.f, func(fd int) error {
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return errno
		}
		return nil
	})
	return info[unix.SK_MEMINFO_DROPS], err
}

func (s *rawSocket) Close() error { return nil }
