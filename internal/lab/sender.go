//go:build linux

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Sender puts IP packets on a link as they are, whatever their source: the
// host's own stack, its routes, its rules and its captures do not see them.
// They arrive at the link's other end. It is not safe for concurrent use; a host may have
// several.
type Sender struct {
	fd int

	// The frame header before each packet, for each IP version.
	ethernet4, ethernet6 [14]byte

	// A batch: message i is made of vectors 2i (frame header) and 2i+1.
	messages [batch]mmsghdr
	vectors  [2 * batch]unix.Iovec
}

// batch is how many packets go to the kernel in one call. More of them gain
// nothing: one packet's way through veth and rules costs several times what is
// left of the call.
const batch = 64

// mmsghdr is struct mmsghdr.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// Sender returns a Sender on the link, which must be an end of a cable. It is
// closed with the lab, if not before.
func (k *Link) Sender() (*Sender, error) {
	if err := k.Host.lab.usable(); err != nil {
		return nil, err
	}
	if k.Peer == nil {
		return nil, fmt.Errorf("lab: link %q of host %q is a bridge: send on one of its ports", k.Name, k.Host.Name)
	}
	s := &Sender{fd: -1}
	copy(s.ethernet4[:], k.Peer.mac)
	copy(s.ethernet4[6:], k.mac)
	s.ethernet6 = s.ethernet4
	copy(s.ethernet4[12:], []byte{0x08, 0x00})
	copy(s.ethernet6[12:], []byte{0x86, 0xdd})
	for i := range s.messages {
		s.messages[i].header.Iov = &s.vectors[2*i]
		s.messages[i].header.SetIovlen(2)
	}
	err := k.Host.Do(func() (err error) {
		// Protocol 0: it receives nothing.
		s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: k.index}); err != nil {
			return err
		}
		return unix.SetsockoptInt(s.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	})
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("lab: send on link %q of host %q: %w", k.Name, k.Host.Name, err)
	}
	k.Host.lab.OnClose(s.Close)
	return s, nil
}

// BroadcastSender returns a Sender whose frames are for everyone on the link, whatever
// address the packets in them are for.
func (k *Link) BroadcastSender() (*Sender, error) {
	s, err := k.Sender()
	if err != nil {
		return nil, err
	}
	for i := range 6 {
		s.ethernet4[i], s.ethernet6[i] = 0xff, 0xff
	}
	return s, nil
}

// Send sends packets in order and returns how many were put on the link: all
// of them, unless there is an error. It does not allocate, and does not keep
// the packets. Packets are worked on at the other end by the CPU that sends
// them; OnCPU chooses it.
func (s *Sender) Send(packets ...[]byte) (int, error) {
	sent := 0
	for refused := 0; sent < len(packets); {
		n, err := s.send(packets[sent:min(sent+batch, len(packets))])
		sent += n
		switch {
		case err == unix.EINTR:
		case err == unix.ENOBUFS && refused < 1000:
			// The other end's queue was full, and the packet has not gone.
			refused++
			runtime.Gosched()
		case err != nil:
			return sent, fmt.Errorf("lab: send packet %d of %d: %w", sent+1, len(packets), err)
		default:
			refused = 0
		}
	}
	return sent, nil
}

// send hands the kernel at most one batch.
func (s *Sender) send(packets [][]byte) (int, error) {
	for i, p := range packets {
		header := &s.ethernet4
		switch {
		case len(p) == 0:
			return 0, errors.New("it is empty")
		case p[0]>>4 == 6:
			header = &s.ethernet6
		}
		s.vectors[2*i] = unix.Iovec{Base: &header[0]}
		s.vectors[2*i].SetLen(len(header))
		s.vectors[2*i+1] = unix.Iovec{Base: &p[0]}
		s.vectors[2*i+1].SetLen(len(p))
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(s.fd),
		uintptr(unsafe.Pointer(&s.messages[0])), uintptr(len(packets)), 0, 0, 0)
	runtime.KeepAlive(packets)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Close closes the sender. It may be called twice.
func (s *Sender) Close() error {
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}
