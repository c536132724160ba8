//go:build linux

package main

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
)

// A workload is a kind of traffic to a stand.
type workload struct {
	name    string
	packets func(s *stand, n int) ([][]byte, error)
	flood   int // additional spoofed first knocks a second
}

var (
	scan = &workload{name: "random scan", packets: func(s *stand, n int) ([][]byte, error) {
		return s.syns(n, func(int) (netip.Addr, uint16) { return source, uint16(1 + rand.IntN(65535)) })
	}}
	alternate = &workload{name: "knock 1, wrong port", packets: alternation}
	flooded   = &workload{name: "the same in a flood", packets: alternation, flood: 20000}
	workloads = []*workload{scan, alternate, flooded}
)

// alternation returns packets of one source that knocks and resets in a loop.
func alternation(s *stand, n int) ([][]byte, error) {
	return s.syns(n, func(i int) (netip.Addr, uint16) {
		if i%2 == 0 {
			return source, s.first
		}
		return source, s.wrong
	})
}

// syns returns pure SYNs to the stand.
func (s *stand) syns(n int, to func(i int) (netip.Addr, uint16)) ([][]byte, error) {
	all := make([][]byte, n)
	for i := range all {
		from, port := to(i)
		p := packet.Packet{
			Src: from, Dst: s.to.Addr4(),
			TCP: &packet.TCP{
				SrcPort: uint16(1024 + rand.IntN(60000)), DstPort: port, Seq: rand.Uint32(), Flags: packet.SYN, Window: 64240,
			},
		}
		var err error
		if all[i], err = p.Append(nil); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// measure returns the time per packet of the workload.
func (w *workload) measure(s *stand, n int) (time.Duration, error) {
	packets, err := w.packets(s, n)
	if err != nil {
		return 0, err
	}
	stop := make(chan struct{})
	stopped := make(chan error, 1)
	if w.flood > 0 {
		spoofed, err := s.syns(w.flood, func(int) (netip.Addr, uint16) { return spoofedSource(), s.first })
		if err != nil {
			return 0, err
		}
		go func() { stopped <- lab.OnCPU(1, func() error { return flood(s.flooder, spoofed, w.flood, stop) }) }()
		time.Sleep(50 * time.Millisecond) // until the flood runs
	} else {
		stopped <- nil
	}
	var took time.Duration
	err = lab.OnCPU(0, func() error {
		began := time.Now()
		sent, err := s.scanner.Send(packets...)
		took = time.Since(began)
		if err == nil && sent != len(packets) {
			err = errShort
		}
		return err
	})
	close(stop)
	if ferr := <-stopped; err == nil {
		err = ferr
	}
	return took / time.Duration(n), err
}

// flood sends packets at a rate until stop is closed, for at most a second.
func flood(s *lab.Sender, packets [][]byte, rate int, stop <-chan struct{}) error {
	const slice = 2 * time.Millisecond
	tick := time.NewTicker(slice)
	defer tick.Stop()
	n := rate * int(slice) / int(time.Second)
	for len(packets) > n {
		select {
		case <-stop:
			return nil
		case <-tick.C:
			if _, err := s.Send(packets[:n]...); err != nil {
				return err
			}
			packets = packets[n:]
		}
	}
	<-stop
	return nil
}

// spoofedSource returns one of 131,072 addresses (RFC 2544's range for
// benchmarks).
func spoofedSource() netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 198<<24|18<<16|uint32(rand.IntN(1<<17)))
	return netip.AddrFrom4(a)
}

// A result is the measured times of one stand.
type result struct {
	times map[*workload][]time.Duration
}

func (r *result) add(w *workload, t time.Duration) {
	if r.times == nil {
		r.times = map[*workload][]time.Duration{}
	}
	r.times[w] = append(r.times[w], t)
}

// quartile returns the lower quartile of the measured times.
func (r *result) quartile(w *workload) time.Duration {
	sorted := slices.Sorted(slices.Values(r.times[w]))
	return sorted[len(sorted)/4]
}
