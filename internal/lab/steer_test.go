//go:build linux

package lab_test

import (
	"encoding/binary"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postern/internal/lab"
)

// Packets of different connections, all sent from one CPU, are received on that
// CPU by an ordinary host, and on every CPU by one that steers.
func TestSteer(t *testing.T) {
	cpus := runtime.NumCPU()
	if cpus < 2 {
		t.Skip("one CPU has no other to hand packets to")
	}
	for _, steers := range []string{"", "steered"} {
		t.Run(steers, func(t *testing.T) {
			l := lab.NewT(t)
			a, b := l.Host("a"), l.Host("b")
			if steers != "" {
				b.Steer()
			}
			atA, atB := l.Connect(a, b, net4)
			sender, err := atA.Sender()
			if err != nil {
				t.Fatal(err)
			}
			sockets := onEachCPU(t, atB, unix.ETH_P_IP)
			var packets [][]byte
			for i := range 64 * cpus {
				p := syn(atA.Addr4(), atB.Addr4())
				p.TCP.SrcPort = uint16(1024 + i)
				packets = append(packets, bytes(t, p))
			}
			if err := lab.OnCPU(0, func() error { _, err := sender.Send(packets...); return err }); err != nil {
				t.Fatal(err)
			}
			received, all := make([]int, cpus), 0
			for deadline := time.Now().Add(10 * time.Second); all < len(packets); {
				if time.Now().After(deadline) {
					t.Fatalf("%d packets of %d arrived: %v", all, len(packets), received)
				}
				for cpu, fd := range sockets {
					if _, err := unix.Read(fd, make([]byte, 100)); err == nil {
						received[cpu]++
						all++
					}
				}
			}
			for cpu, n := range received {
				if want := steers != "" || cpu == 0; n > 0 != want {
					t.Errorf("%d of %d packets on CPU %d: %v", n, all, cpu, received)
				}
			}
		})
	}
}

// onEachCPU opens a socket for each CPU, which gets a copy of what it receives
// on a link, of one kind of frame.
func onEachCPU(t *testing.T, k *lab.Link, kind uint16) []int {
	t.Helper()
	sockets := make([]int, runtime.NumCPU())
	err := k.Host.Do(func() error {
		i, err := net.InterfaceByName(k.Name)
		if err != nil {
			return err
		}
		for cpu := range sockets {
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			sockets[cpu] = fd
			protocol := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, kind))
			if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: i.Index}); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, unix.PACKET_FANOUT_CPU<<16|1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sockets
}
