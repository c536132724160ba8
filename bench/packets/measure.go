//go:build linux

package main

import (
	"runtime"
	"slices"
	"time"

	"postern/internal/lab"
	"postern/internal/packet"
)

// A measurement is what a workload cost at a stand.
type measurement struct {
	packet  time.Duration // of the sender's thread
	workers time.Duration // of the kernel's threads, for each packet of a steady flood
	rate    float64       // packets a second of a steady flood
}

// measure sends a workload to a stand once.
func (p *plan) measure(watch stopwatch, s *stand, w *workload) (m measurement, err error) {
	if w.beside > 0 {
		stop, err := s.floodBeside(w.family, w.beside)
		if err != nil {
			return m, err
		}
		defer func() {
			if ferr := stop(); err == nil {
				err = ferr
			}
		}()
	}
	err = lab.OnCPU(0, func() error {
		if w.steady {
			m, err = p.steadily(watch, s, w)
			return err
		}
		// The first packets find cold caches, which real traffic does not.
		if _, err := s.burst(watch, w, p.packets/4); err != nil {
			return err
		}
		took, err := s.burst(watch, w, p.packets)
		m.packet = took / time.Duration(p.packets)
		return err
	})
	return m, err
}

// steadily sends a workload without a break, and measures it when the tables
// neither grow nor shrink any more.
func (p *plan) steadily(watch stopwatch, s *stand, w *workload) (measurement, error) {
	for began := time.Now(); time.Since(began) < p.warmUp; {
		if _, err := s.burst(watch, w, p.packets); err != nil {
			return measurement{}, err
		}
	}
	before, err := readWorkers()
	if err != nil {
		return measurement{}, err
	}
	var took time.Duration
	sent := 0
	began := time.Now()
	for sent == 0 || time.Since(began) < p.lasts {
		t, err := s.burst(watch, w, p.packets)
		if err != nil {
			return measurement{}, err
		}
		took += t
		sent += p.packets
	}
	passed := time.Since(began)
	after, err := readWorkers()
	each := time.Duration(sent)
	return measurement{took / each, after.since(before) / each, float64(sent) / passed.Seconds()}, err
}

// burst makes n packets of a workload, sends them and returns how long the
// thread worked to send them.
func (s *stand) burst(watch stopwatch, w *workload, n int) (time.Duration, error) {
	s.packets = s.packets[:0]
	for range n {
		var err error
		if s.packets, err = appendPacket(s.packets, w.packet(s)); err != nil {
			return 0, err
		}
	}
	began := watch.read()
	err := s.send(s.packets)
	return watch.read() - began, err
}

// appendPacket encodes a packet into the next of several buffers, which is used
// again where there is one.
func appendPacket(packets [][]byte, p packet.Packet) ([][]byte, error) {
	n := len(packets)
	packets = slices.Grow(packets, 1)[:n+1]
	var err error
	packets[n], err = p.Append(packets[n][:0])
	return packets, err
}

// floodBeside sends forged first knocks at a rate from another processor, if
// there is one, until the returned function is called.
func (s *stand) floodBeside(f family, rate int) (stop func() error, err error) {
	const slice = 2 * time.Millisecond
	n := rate * int(slice) / int(time.Second)
	// As many as can be sent before the first ones are forgotten.
	var packets [][]byte
	for range rate {
		if packets, err = appendPacket(packets, forging(f, firstKnock)(s)); err != nil {
			return nil, err
		}
	}
	quit, done := make(chan struct{}), make(chan error, 1)
	running := make(chan struct{})
	go func() {
		done <- lab.OnCPU(min(1, runtime.NumCPU()-1), func() error {
			tick := time.NewTicker(slice)
			defer tick.Stop()
			for turn := 0; ; turn++ {
				i := turn % (rate / n) * n
				if _, err := s.flooder.Send(packets[i : i+n]...); err != nil {
					return err
				}
				if turn == 10 {
					close(running)
				}
				select {
				case <-quit:
					return nil
				case <-tick.C:
				}
			}
		})
	}()
	stop = func() error { close(quit); return <-done }
	select {
	case <-running:
		return stop, nil
	case err := <-done:
		return nil, err
	}
}
