//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"postern/internal/descriptor"
)

// A Ring is a packet socket that shares memory with the kernel (TPACKET_V2).
// A plain socket holds some 200 packets for an ordinary user, too few under a
// flood; a ring is bounded by nothing but its own size.
type Ring struct {
	f      *os.File
	memory []byte
	next   int // the frame that the kernel fills next
	missed uint32
}

const (
	frameSize  = 2048 // one packet of a link's MTU, and its headers
	frameCount = 8192
	blockSize  = 64 << 10
)

// Capture records the packets that pass the link, in both directions. ARP and
// whatever else is not a whole IP packet is left out. The capture is closed with the lab, if
// not before.
func (k *Link) Capture(filter Filter) (*Capture, error) {
	if err := k.Host.lab.usable(); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("on link %q of host %q", k.Name, k.Host.Name)
	r, err := k.Ring()
	if err != nil {
		return nil, fmt.Errorf("lab: capture %s: %w", what, err)
	}
	return k.Host.newCapture(what, filter, r), nil
}

// Ring returns a ring of what passes the link, in both directions. The caller must
// close its file, and then the ring.
func (k *Link) Ring() (r *Ring, err error) {
	err = k.Host.Do(func() error {
		r, err = newRing(k.index)
		return err
	})
	return r, err
}

func newRing(index int) (*Ring, error) {
	// SOCK_DGRAM: without the frame's header. Protocol 0: nothing is received
	// before the ring is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r := &Ring{f: os.NewFile(uintptr(fd), "packet ring")}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2)
	if err == nil {
		err = unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{
			Block_size: blockSize,
			Block_nr:   frameSize * frameCount / blockSize,
			Frame_size: frameSize,
			Frame_nr:   frameCount,
		})
	}
	if err == nil {
		r.memory, err = unix.Mmap(fd, 0, frameSize*frameCount, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index})
	}
	if err != nil {
		r.f.Close()
		r.Close()
		return nil, err
	}
	return r, nil
}

// File returns the socket: it can be read when packets are there.
func (r *Ring) File() *os.File { return r.f }

// Read hands over all packets that are there, without waiting. The octets are
// valid during the call only.
//
// The kernel's packet_mmap document describes it: the status word says whose frame
// it is, and giving it back is writing the word.
func (r *Ring) Read(keep func(raw []byte, at time.Time, out bool)) error {
	for {
		frame := r.memory[r.next*frameSize:][:frameSize]
		header := (*unix.Tpacket2Hdr)(unsafe.Pointer(&frame[0]))
		if atomic.LoadUint32(&header.Status)&unix.TP_STATUS_USER == 0 {
			return nil
		}
		address := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&frame[unix.SizeofTpacket2Hdr]))
		if header.Snaplen < header.Len {
			return fmt.Errorf("a packet of %d octets is too long for a frame of %d", header.Len, frameSize)
		}
		if p := address.Protocol; p == bigEndian(unix.ETH_P_IP) || p == bigEndian(unix.ETH_P_IPV6) {
			keep(frame[header.Net:][:header.Snaplen], time.Unix(int64(header.Sec), int64(header.Nsec)),
				address.Pkttype == unix.PACKET_OUTGOING)
		}
		atomic.StoreUint32(&header.Status, unix.TP_STATUS_KERNEL)
		r.next = (r.next + 1) % frameCount
	}
}

// Lost returns how many packets the kernel had no room for so far.
func (r *Ring) Lost() (uint32, error) {
	err := descriptor.Use(r.f, func(fd int) error {
		stats, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err != nil {
			return err
		}
		r.missed += stats.Drops // reading them sets them back
		return nil
	})
	return r.missed, err
}

// Close unmaps the ring, after the last Read.
func (r *Ring) Close() error {
	if r.memory == nil {
		return nil
	}
	return unix.Munmap(r.memory)
}

// bigEndian returns the number whose octets in memory are those of n in
// network order.
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(n >> 8), byte(n)})
}
