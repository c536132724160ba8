//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"postern/bench"
	"postern/internal/firewall/backends"
	"postern/internal/firewall/nftables"
	"postern/internal/lab"
	"postern/internal/packet"
)

// memory fills the table of progress of each family with spoofed first knocks
// until it is full, and prints how much kernel memory that takes. The step
// timeout is an hour, so that no entry expires meanwhile.
func memory(ctx context.Context) error {
	l := lab.New()
	defer l.Close()
	s, err := newStand(ctx, l, &subject{
		name: "memory", first: first, wrong: wrong,
		load: bench.LoadPolicy(backends.Default(), fmt.Sprintf("version: 1\nposture: closed\ndoors:\n"+
			"  a: {service: 22, knock: {sequence: [%d, 2345], step_timeout: 1h}}\n", first)),
	})
	if err != nil {
		return err
	}
	if err := settle(ctx); err != nil {
		return err
	}
	fmt.Print("Kernel memory of a full table of progress:\n\n")
	for _, family := range []string{"IPv4", "IPv6"} {
		if err := s.fill(ctx, family); err != nil {
			return err
		}
	}
	return nil
}

func (s *stand) fill(ctx context.Context, family string) error {
	before, err := kernelMemory()
	if err != nil {
		return err
	}
	const attempts = 1 << 21 // twice the size of the table: some sources share a spent budget
	buffer := make([][]byte, 0, 512)
	for i := range uint32(attempts) {
		p := packet.Packet{Src: spoofed(family, i), Dst: s.to.Addr4(), TCP: &packet.TCP{DstPort: s.first, Flags: packet.SYN}}
		if family == "IPv6" {
			p.Dst = s.to.Addr6()
		}
		b, err := p.Append(nil)
		if err != nil {
			return err
		}
		if buffer = append(buffer, b); len(buffer) < cap(buffer) {
			continue
		}
		if _, err := s.scanner.Send(buffer...); err != nil {
			return err
		}
		if buffer = buffer[:0]; ctx.Err() != nil {
			return ctx.Err()
		}
	}
	time.Sleep(time.Second) // the kernel frees old hash tables in the background
	after, err := kernelMemory()
	if err != nil {
		return err
	}
	// Each attempt came from another source and added an entry if there was
	// room.
	elements := nftables.MaxProgress
	fmt.Printf("  %s  %9d sources  %4d MB  %d bytes each\n", family, elements, (after-before)>>20, (after-before)/elements)
	return nil
}

// spoofed returns the i-th address of a large network.
func spoofed(family string, i uint32) netip.Addr {
	if family == "IPv4" {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], 32<<24+i)
		return netip.AddrFrom4(a)
	}
	a := [16]byte{0x20, 0x01, 0x0d, 0xb9}
	binary.BigEndian.PutUint32(a[12:], i)
	return netip.AddrFrom16(a)
}

// settle waits until the kernel has freed the memory of the measured hosts,
// which it does in the background.
func settle(ctx context.Context) error {
	before, err := kernelMemory()
	for quiet := 0; quiet < 4 && err == nil; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		var now int
		now, err = kernelMemory()
		if quiet++; max(now-before, before-now) > 1<<20 {
			quiet = 0
		}
		before = now
	}
	return err
}

// kernelMemory returns the memory that the kernel uses itself, in bytes.
func kernelMemory() (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	total := 0
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		switch name {
		case "SUnreclaim", "VmallocUsed", "Percpu":
			var kb int
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				return 0, fmt.Errorf("/proc/meminfo: %s: %w", name, err)
			}
			total += kb << 10
		}
	}
	return total, lines.Err()
}
