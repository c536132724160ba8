package bpf

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"postern/internal/key"
	"postern/internal/packet"
)

// BenchmarkProgram measures what the program adds to a packet, beside a program that
// does nothing.
func BenchmarkProgram(b *testing.B) {
	s := newScene(b, nil, nil)
	junk := randomToken()
	swapped := s.credential(0, 0).Token(s.fresh(), neighbour(sender4), key.Lane4)
	plain := synData.packet(sender4, nil)
	plain.TCP.DstPort = 22
	bulk := packet.Packet{Src: sender4, Dst: server4, TCP: &packet.TCP{SrcPort: 50000, DstPort: 22, Flags: packet.ACK}, Payload: make([]byte, 1400)}
	for _, test := range []struct {
		name    string
		program *ebpf.Program
		packet  packet.Packet
	}{
		{"nothing", foreign(b, next), plain},
		{"a SYN", s.program.program, plain},
		{"a full packet", s.program.program, bulk},
		{"junk", s.program.program, datagram.packet(sender4, junk[:])},
		{"a wrong tag", s.program.program, datagram.packet(sender4, swapped[:])},
	} {
		b.Run(test.name, func(b *testing.B) {
			_, each, err := test.program.Benchmark(frame(b, test.packet), b.N, nil)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/op")
		})
	}
	// A right token is so once, and the kernel's clock is read for each.
	for name, program := range map[string]*ebpf.Program{"a token": s.program.program, "nothing, once": foreign(b, next)} {
		b.Run(name, func(b *testing.B) {
			times := make([]time.Duration, 0, b.N)
			for range b.N {
				token := s.credential(0, 0).Token(s.fresh(), sender4, key.Lane4)
				_, each, err := program.Benchmark(frame(b, datagram.packet(sender4, token[:])), 1, nil)
				if err != nil {
					b.Fatal(err)
				}
				times = append(times, each)
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Nanoseconds()), "ns/op")
		})
	}
}

// BenchmarkLoad measures loading ten thousand users with three devices each, beside
// ten, in place of a program that has them too.
func BenchmarkLoad(b *testing.B) {
	needBPF(b)
	for _, users := range []int{10, 10_000} {
		b.Run(fmt.Sprint(users), func(b *testing.B) {
			c := Config{Site: key.NewSite(), Port: port, Window: key.DefaultWindow}
			var people []Device
			for range 3 * users {
				people = append(people, Device{ID: key.NewDevice(), Secret: key.NewSecret(), Doors: doors[:1]})
			}
			first, err := Load(c, people, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer first.Close()
			running := &Running{instances: []*instance{&first.instance}}
			for b.Loop() {
				p, err := Load(c, people, running)
				if err != nil {
					b.Fatal(err)
				}
				p.Close()
			}
			began := time.Now()
			if pairs, err := running.Pairs(); err != nil || len(pairs) != len(people) {
				b.Fatal(len(pairs), err)
			}
			b.ReportMetric(float64(time.Since(began).Nanoseconds()), "ns/Pairs")
		})
	}
}

// BenchmarkEarly measures what the program takes for a packet where it counts packets early:
// those that it drops, and datagrams of a known flow.
func BenchmarkEarly(b *testing.B) {
	s := newEarlyScene(b, nil, func(e *Early) { countUDP(e); e.Budget.Rate = 1 })
	settled(s)
	s.track(portOf(sender4, 50000), portOf(server4, 4500), portOf(sender4, 50000))
	s.track(portOf(sender6, 50000), portOf(server6, 4500), portOf(sender6, 50000))
	junk := randomToken()
	for _, test := range []struct {
		name   string
		packet packet.Packet
	}{
		{"a SYN", syn(sender4, idlePort)},
		{"a SYN over IPv6", syn(sender6, idlePort)},
		{"a datagram", udp(sender4, idlePort)},
		{"a datagram over IPv6", udp(sender6, idlePort)},
		{"junk", datagram.packet(sender4, junk[:])},
		{"of a known flow", udp(sender4, 4500)},
		{"of a known flow over IPv6", udp(sender6, 4500)},
		{"to a named port", udp(sender4, namedPort)},
	} {
		b.Run(test.name, func(b *testing.B) {
			s.do(b, func() error {
				_, each, err := s.program.program.Benchmark(frame(b, test.packet), b.N, nil)
				b.ReportMetric(float64(each.Nanoseconds()), "ns/op")
				return err
			})
		})
	}
}

// BenchmarkEarlyCrowd measures which part of the sources is not dropped while it goes on, beside
// others that do, as all of its places are others'.
func BenchmarkEarlyCrowd(b *testing.B) {
	for _, others := range []int{3000, 10_000, 30_000, 100_000, 200_000} {
		b.Run(fmt.Sprint(others), func(b *testing.B) {
			const some = 2000
			kept := 0
			for b.Loop() {
				kept += beside(newEarlyScene(b, nil, remembersUDP), others, some)
			}
			b.ReportMetric(100*float64(kept)/float64(some*b.N), "%kept")
		})
	}
}
