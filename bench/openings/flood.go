//go:build linux

package main

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"postern/bench/machine"
	"postern/internal/key"
	"postern/internal/lab"
	"postern/internal/packet"
)

// An attack is what somebody sends to a server, as fast as a processor can, while doors
// are opened.
type attack struct {
	name string
	// packet returns one, given the client's address, and the payload of what was seen to
	// open the door last.
	packet func(client netip.Addr, seen []byte, port uint16) packet.Packet
}

var attacks = []attack{
	{name: "nothing"},
	{name: "a scan, in the client's name", packet: func(client netip.Addr, _ []byte, _ uint16) packet.Packet {
		return packet.Packet{Src: client, Dst: serverAddress, TCP: &packet.TCP{
			SrcPort: anyPort(), DstPort: anyPort(), Seq: rand.Uint32(), Flags: packet.SYN, Window: 64240,
		}}
	}},
	{name: "junk", packet: func(_ netip.Addr, seen []byte, port uint16) packet.Packet {
		return datagram(netip.MustParseAddr("10.250.0.1"), shuffled(seen), port)
	}},
	{name: "junk of forged senders", packet: func(_ netip.Addr, seen []byte, port uint16) packet.Packet {
		return datagram(anySender(), shuffled(seen), port)
	}},
	{name: "junk, in the client's name", packet: func(client netip.Addr, seen []byte, port uint16) packet.Packet {
		return datagram(client, shuffled(seen), port)
	}},
	{name: "what was seen, forged senders", packet: func(_ netip.Addr, seen []byte, port uint16) packet.Packet {
		return datagram(anySender(), seen, port)
	}},
	{name: "the same, in the client's name", packet: func(client netip.Addr, seen []byte, port uint16) packet.Packet {
		return datagram(client, seen, port)
	}},
}

func datagram(from netip.Addr, payload []byte, port uint16) packet.Packet {
	return packet.Packet{Src: from, Dst: serverAddress, UDP: &packet.UDP{SrcPort: anyPort(), DstPort: port}, Payload: payload}
}

// shuffled returns the same bytes in another order: junk that looks like what is right.
func shuffled(b []byte) []byte {
	b = slices.Clone(b)
	rand.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	return b
}

func anyPort() uint16 { return uint16(1 + rand.IntN(65535)) }

// anySender returns an address on the server's network that no client has.
func anySender() netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(100 + rand.IntN(100)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))})
}

// flooded measures openings while the server is attacked.
func (b *plan) flooded(ctx context.Context) error {
	n := min(20, 4*b.openings)
	fmt.Fprintf(b.out, `%d openings each over a plain cable, one at a time, while somebody sends as much as one processor can:

                                         in    median       p99  packets a second
`, n)
	for _, s := range []*subject{oursByKey, oursByTags, ours, byFwknop} {
		// Most of others' openings fail, after five seconds each.
		if !b.measures(s) || s != oursByKey && b.openings < 4 {
			continue
		}
		fmt.Fprintf(b.out, "%s\n", s.name)
		if err := b.underAll(ctx, s, n); err != nil {
			return err
		}
	}
	return nil
}

// underAll measures a subject under all attacks, and prints a row for each.
func (b *plan) underAll(ctx context.Context, s *subject, openings int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := lab.New()
	defer l.Close()
	st, err := newStand(ctx, l, b.kit, "flooded", s, overCable(l))
	if err != nil {
		return err
	}
	opens, err := st.link.Capture(func(p *packet.Packet) bool { return p.UDP != nil && p.UDP.DstPort == s.client.port })
	if err != nil {
		return err
	}
	// Of who knocks nothing is seen that could be sent again: it is junk of a token's size.
	v := &victim{stand: st, subject: s, opens: opens, seen: make([]byte, key.TokenSize)}
	crand.Read(v.seen)
	return st.asClient(hidden, func() error {
		for _, a := range attacks {
			t, rate, load, err := v.under(ctx, a, openings)
			if err != nil {
				return err
			}
			fmt.Fprintf(b.out, "    %-33s%7s %9s %9s  %7.0f%s\n", a.name, t.in(), t.percentile(50), t.percentile(99), rate,
				mark(machine.Load{Stolen: load.Stolen}))
		}
		return nil
	})
}

// A victim is a client whose server is attacked, by somebody who sees what it sends.
type victim struct {
	*stand
	subject *subject
	opens   *lab.Capture // datagrams that open the door
	seen    []byte       // the payload of the last that did
	flood   *flood       // nil while there is none
}

// under makes openings under an attack, on a thread of the client. It returns how many
// packets of the attack were sent a second.
func (v *victim) under(ctx context.Context, a attack, openings int) (t *tally, rate float64, load machine.Load, err error) {
	t = &tally{}
	since := machine.Watch()
	if v.subject.client.devices > 0 {
		time.Sleep(key.Spacing) // so that each device has another token
	}
	for range openings {
		var o outcome
		if o, err = v.attacked(ctx, a); err != nil {
			break
		}
		progress(v.subject.name+", "+a.name, t.add(o), openings)
	}
	load = since()
	if v.flood != nil {
		var stopped error
		rate, stopped = v.flood.stop()
		v.flood = nil
		err = cmp.Or(err, stopped)
	}
	return t, rate, load, err
}

// attacked makes an opening from a new address, with packets of the attack that fit it.
func (v *victim) attacked(ctx context.Context, a attack) (o outcome, err error) {
	c := v.subject.client.at(v.opening)
	if err := v.renew(c); err != nil {
		return o, err
	}
	if a.packet != nil {
		packets := a.packets(v.link.Addr4(), v.seen, cmp.Or(v.subject.client.port, tokenPort))
		if v.flood == nil {
			if v.flood, err = newFlood(v.link, packets); err != nil {
				return o, err
			}
		}
		v.flood.packets.Store(&packets)
	}
	if o, err = v.open(ctx, c); err != nil {
		return o, err
	}
	sent, err := v.opens.Drain()
	if len(sent) > 0 && o.in {
		v.seen = sent[len(sent)-1].Payload
	}
	return o, err
}

// packets returns packets to send again and again: so many that making them takes no time
// beside sending them.
func (a attack) packets(client netip.Addr, seen []byte, port uint16) [][]byte {
	var all [][]byte
	for range 4096 {
		p := a.packet(client, seen, port)
		one, err := p.Append(nil)
		if err != nil {
			panic(err) // all packets are well-formed
		}
		all = append(all, one)
	}
	return all
}

// A flood sends packets until it is stopped.
type flood struct {
	packets atomic.Pointer[[][]byte]
	quit    chan struct{}
	done    chan error
	sent    int
	took    time.Duration
}

// newFlood returns a flood on a link, sent from the last processor.
func newFlood(k *lab.Link, packets [][]byte) (*flood, error) {
	sender, err := k.Sender()
	if err != nil {
		return nil, err
	}
	f := &flood{quit: make(chan struct{}), done: make(chan error, 1)}
	f.packets.Store(&packets)
	go func() {
		f.done <- lab.OnCPU(runtime.NumCPU()-1, func() error {
			begun := time.Now()
			defer func() { f.took = time.Since(begun) }()
			for {
				n, err := sender.Send(*f.packets.Load()...)
				f.sent += n
				if err != nil {
					return err
				}
				select {
				case <-f.quit:
					return nil
				default:
				}
			}
		})
	}()
	return f, nil
}

// stop ends the flood and returns how many packets a second it had.
func (f *flood) stop() (rate float64, err error) {
	close(f.quit)
	err = <-f.done
	return float64(f.sent) / f.took.Seconds(), err
}
