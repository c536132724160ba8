//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
)

// A flood is what somebody sends meanwhile, as fast as one processor can.
type flood struct {
	name string
	// change makes a datagram from the client's address to one of the flood. The token
	// is one that was used already.
	change func(p *packet.Packet, used key.Token)
}

// different is how many different packets a flood has.
const different = 4096

var usedToken = flood{"a used token, in the client's name", func(p *packet.Packet, used key.Token) {
	p.UDP.DstPort, p.Payload = tokenPort, used[:]
}}

var floods = []flood{
	{"nothing", nil},
	{"junk to the key port, of its size", func(p *packet.Packet, _ key.Token) {
		p.Src = netip.AddrFrom4([4]byte(append([]byte{11}, randomBytes(3)...)))
		p.UDP.DstPort, p.Payload = tokenPort, randomBytes(key.TokenSize)
	}},
	{"the same, in the client's name", func(p *packet.Packet, _ key.Token) {
		p.UDP.DstPort, p.Payload = tokenPort, randomBytes(key.TokenSize)
	}},
	usedToken,
	{"a scan, in the client's name", func(p *packet.Packet, _ key.Token) {
		p.UDP = nil
		p.TCP = &packet.TCP{SrcPort: 50000, DstPort: uint16(1 + rand.N(65535)), Seq: rand.Uint32(), Flags: packet.SYN, Window: 1024}
	}},
}

// packet returns a packet of the flood.
func (f *flood) packet(client netip.Addr, used key.Token) ([]byte, error) {
	p := &packet.Packet{Src: client, Dst: serverAddress, TTL: 64, UDP: &packet.UDP{SrcPort: 50000}}
	f.change(p, used)
	return p.Append(nil)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// flooded measures openings while others send to the same server.
func (b *plan) flooded(ctx context.Context) error {
	openings := max(1, b.openings/50)
	fmt.Fprintf(b.out, `One opening at a time over a plain cable, %d of each, while somebody sends as fast as possible:

                                                                      in    median       p99  packets/s
`, openings)
	for _, s := range []*subject{oursByKey, ours} {
		// Knocks mostly fail, and take their time for it: too long for a test.
		if !b.measures(s) || s == ours && openings == 1 {
			continue
		}
		if err := b.underFloods(ctx, s, openings); err != nil {
			return err
		}
	}
	return nil
}

func (b *plan) underFloods(ctx context.Context, s *subject, openings int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := lab.New()
	defer l.Close()
	st, err := newStand(ctx, l, b.kit, "flood", s, overCable(l))
	if err != nil {
		return err
	}
	sender, err := st.link.Sender()
	if err != nil {
		return err
	}
	defer sender.Close()
	used := b.kit.credential.Token(time.Now(), netip.Addr{}, key.Lane4)
	once, err := usedToken.packet(netip.MustParseAddr("11.0.0.1"), used)
	if err != nil {
		return err
	}
	if _, err := sender.Send(once); err != nil {
		return err
	}
	for _, f := range floods {
		var opened tally
		sent, begun := 0, time.Now()
		err = st.asClient(hidden, func() error {
			for range openings {
				if err := st.renew(s.client); err != nil {
					return err
				}
				stop, err := f.start(sender, st.link.Addr4(), used)
				if err != nil {
					return err
				}
				o, err := st.open(ctx, s.client)
				n, failed := stop()
				sent += n
				if err := errors.Join(err, failed); err != nil {
					return err
				}
				progress(s.name, opened.add(o), openings)
			}
			return nil
		})
		fmt.Fprintln(os.Stderr)
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "%-27s %-34s %7s %9s %9s %10.0f\n", s.name, f.name,
			opened.in(), opened.percentile(50), opened.percentile(99), float64(sent)/time.Since(begun).Seconds())
	}
	return nil
}

// start sends until stop is called, which returns how many were sent.
func (f *flood) start(sender *lab.Sender, client netip.Addr, used key.Token) (stop func() (int, error), err error) {
	if f.change == nil {
		return func() (int, error) { return 0, nil }, nil
	}
	all := make([][]byte, different)
	for i := range all {
		if all[i], err = f.packet(client, used); err != nil {
			return nil, err
		}
	}
	var ended atomic.Bool
	sent, done := 0, make(chan error)
	go func() {
		for !ended.Load() {
			n, err := sender.Send(all...)
			sent += n
			if err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() (int, error) {
		ended.Store(true)
		err := <-done
		return sent, err
	}, nil
}
