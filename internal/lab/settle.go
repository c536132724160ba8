//go:build linux

package lab

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// markerType is the first of the two frame types that IEEE 802 leaves to local
// experiments. No stack answers it.
const markerType = 0x88b5

// A marker is a socket at an end of a cable that sends numbered frames of its
// own to the other end, and receives those that the other end sends.
type marker struct {
	link  *Link
	fd    int
	frame [14 + 8]byte
}

// Settle waits until the packets that are under way have arrived, and those
// that the hosts' kernels send in answer too. A test that has sent a packet
// and called Settle may take what a capture does not show for what did not
// happen, without waiting for a time.
//
// It does not wait for programs, nor for what the kernel does later by a timer
// (a retransmission, or a neighbour that does not answer being given up) or in
// a worker: a macvlan hears broadcasts that way, and so ARP.
//
// It works because a link keeps order on each CPU, and a packet stays on one.
// Settle sends a marker after whatever is there, from each end on each CPU, and
// waits until it arrives. What a packet has caused by then is in front of the
// next marker, so as many rounds are made as a packet and its answer may have
// hops. On an idle machine that takes about a millisecond.
func (l *Lab) Settle() error {
	if err := l.usable(); err != nil {
		return err
	}
	l.settling.Lock()
	defer l.settling.Unlock()
	if err := l.newMarkers(); err != nil {
		return fmt.Errorf("lab: settle: %w", err)
	}
	// The whole process's CPUs: this thread may be held on one.
	var cpus unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &cpus); err != nil {
		return fmt.Errorf("lab: settle: %w", err)
	}
	l.mu.Lock()
	rounds := 2*len(l.hosts) + 2
	l.mu.Unlock()
	for cpu, left := 0, cpus.Count(); left > 0; cpu++ {
		if !cpus.IsSet(cpu) {
			continue
		}
		left--
		// All rounds in one go: getting a turn on a busy CPU is what takes time.
		err := OnCPU(cpu, func() error {
			for range rounds {
				if err := l.mark(); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("lab: settle: %w", err)
		}
	}
	return nil
}

// mark sends a marker each way over every cable and waits for all to arrive.
func (l *Lab) mark() error {
	l.marks++
	for _, m := range l.markers {
		if err := m.send(l.marks); err != nil {
			return fmt.Errorf("send on link %q of host %q: %w", m.link.Name, m.link.Host.Name, err)
		}
	}
	for _, m := range l.markers {
		if err := m.wait(l.marks); err != nil {
			return fmt.Errorf("receive on link %q of host %q: %w", m.link.Name, m.link.Host.Name, err)
		}
	}
	return nil
}

// newMarkers opens the markers of the cables that have been laid since the
// last time.
func (l *Lab) newMarkers() error {
	l.mu.Lock()
	links := l.cables[len(l.markers):]
	l.mu.Unlock()
	for _, k := range links {
		m := &marker{link: k, fd: -1}
		copy(m.frame[:], k.Peer.mac)
		copy(m.frame[6:], k.mac)
		binary.BigEndian.PutUint16(m.frame[12:], markerType)
		if err := k.Host.Do(m.open); err != nil {
			return err
		}
		l.markers = append(l.markers, m)
		l.OnClose(m.close)
	}
	return nil
}

// close closes the socket. It may be called twice.
func (m *marker) close() error {
	if m.fd < 0 {
		return nil
	}
	err := unix.Close(m.fd)
	m.fd = -1
	return err
}

// open opens the socket. It is one for all frame types, with a filter: one for
// the markers alone would receive nothing on a port of a bridge, which takes
// the frames before.
func (m *marker) open() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const frameType = 0xfffff000 // SKF_AD_OFF + SKF_AD_PROTOCOL: not from the frame, from the kernel
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: frameType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: markerType, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}, // all of it
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},       // none
	}
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	for _, step := range []func() error{
		func() error {
			return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
				&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
		},
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1) },
		func() error { return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1) },
		func() error { return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout) },
		func() error {
			return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: m.link.index})
		},
	} {
		if err := step(); err != nil {
			unix.Close(fd)
			return err
		}
	}
	m.fd = fd
	return nil
}

func (m *marker) send(number uint64) error {
	binary.BigEndian.PutUint64(m.frame[14:], number)
	for refused := 0; ; refused++ {
		_, err := unix.Write(m.fd, m.frame[:])
		if (err != unix.ENOBUFS && err != unix.EINTR) || refused == 1000 {
			return err
		}
	}
}

// wait waits for a number. Smaller ones are left from a time that failed.
func (m *marker) wait(number uint64) error {
	var frame [64]byte
	for {
		n, err := unix.Read(m.fd, frame[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return fmt.Errorf("no marker within %s: is the link up?", patience)
		case err != nil:
			return err
		case n >= len(m.frame) && binary.BigEndian.Uint64(frame[14:]) >= number:
			return nil
		}
	}
}
